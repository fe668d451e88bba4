"""Specimens: one broken file for each way to be wrong, the message it earns, and what stock pycasbin does with it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ruqsat.casbin.oracle import Oracle
from ruqsat.cli.policy import app
from ruqsat.core.case import Case
from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.world import World

BROKEN = Path(__file__).parent / "broken"
CODES = sorted(path.name for path in BROKEN.iterdir())

BLOCKED = PolicyCase("a blocked record", "dr_aida read d1 TREAT", "deny.resource.blocked", "hard-deny-03")
"""In the sound pack nobody opens this record: it is blocked (order §24)."""


def named(record: str) -> PolicyCase:
    """A case on a record with this id, which the broken rule means to shut."""
    properties = {"patient": "p-dana", "class": "labs", "labels": []}
    return PolicyCase("a record by id", f"dr_aida read {record} TREAT", "", resource=properties)


SILENT_ALLOWS = {
    "unknown-row-kind": BLOCKED,
    "byte-order-mark": BLOCKED,
    "unknown-effect": BLOCKED,
    "empty-policy": BLOCKED,
    "comment-after-rule": BLOCKED,
    "unknown-role": BLOCKED,
    "mixed-effects": BLOCKED,
    "prefix-in-literal": named("r.1"),
    "operator-in-literal": named("a!b"),
}
"""Broken packs that pycasbin loads without a word, and a request that it then allows."""

FAILS_AT_REQUEST = ("quoted-cell", "wrong-column-count", "hash-in-literal")
"""Broken packs that pycasbin loads without a word, and then fails every such request."""

SILENTLY_THE_SAME = ("unsupported-effect", "refused-construct", "unknown-law")
"""Broken packs that pycasbin loads without a word and answers as if nothing were wrong."""


@pytest.fixture
def broken_pack(request: pytest.FixtureRequest, tmp_path: Path, pack_texts: dict[str, bytes]) -> Path:
    """The pack of this checkout with one broken file laid over it."""
    for name, data in pack_texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    overlay = BROKEN / request.param
    for path in overlay.rglob("*"):
        if path.is_file() and path.name != "expected.txt":
            (tmp_path / path.relative_to(overlay)).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("broken_pack", CODES, indirect=True, ids=CODES)
def test_check_says_where_what_and_what_to_do(broken_pack: Path, request: pytest.FixtureRequest) -> None:
    """Every slip is refused with its place, its code and a hint, word for word as the specimen says."""
    code = request.node.callspec.id

    result = CliRunner().invoke(app, ["check", str(broken_pack)])

    assert result.exit_code == 1
    assert f"error[{code}]" in result.stdout
    assert "hint:" in result.stdout
    assert result.stdout == (BROKEN / code / "expected.txt").read_text()


@pytest.mark.parametrize("broken_pack", SILENT_ALLOWS, indirect=True, ids=SILENT_ALLOWS)
def test_stock_pycasbin_allows_in_silence_what_the_slip_meant_to_deny(
    broken_pack: Path, request: pytest.FixtureRequest, policy_set: PolicySet, world: World
) -> None:
    """The same file makes stock pycasbin allow, without a word, what the rule was written to deny."""
    policy_case = SILENT_ALLOWS[request.node.callspec.id]

    allowed, _ = stock(broken_pack, policy_set).decide(sound_case(policy_set, world, policy_case))

    assert allowed


@pytest.mark.parametrize("broken_pack", FAILS_AT_REQUEST, indirect=True, ids=FAILS_AT_REQUEST)
def test_stock_pycasbin_loads_it_and_fails_at_the_first_request(
    broken_pack: Path, policy_set: PolicySet, world: World
) -> None:
    """A slip that stock pycasbin meets only when a request arrives would be an outage."""
    oracle = stock(broken_pack, policy_set)

    with pytest.raises((RuntimeError, SyntaxError)):
        oracle.decide(sound_case(policy_set, world, BLOCKED))


@pytest.mark.parametrize("broken_pack", SILENTLY_THE_SAME, indirect=True, ids=SILENTLY_THE_SAME)
def test_stock_pycasbin_does_not_notice(broken_pack: Path, policy_set: PolicySet, world: World) -> None:
    """Stock pycasbin answers on as if the file were sound."""
    allowed, rule = stock(broken_pack, policy_set).decide(sound_case(policy_set, world, BLOCKED))

    assert (allowed, rule) == (False, "hard-deny-03")


@pytest.mark.parametrize("broken_pack", ["unbalanced-bracket"], indirect=True)
def test_stock_pycasbin_crashes_on_an_unbalanced_bracket(broken_pack: Path, policy_set: PolicySet) -> None:
    """A bracket too many is an IndexError in stock pycasbin's reader."""
    with pytest.raises(IndexError):
        stock(broken_pack, policy_set)


def test_every_specimen_stands_beside_the_answer_of_stock_pycasbin() -> None:
    """No specimen is without its counterpart."""
    beside = {*SILENT_ALLOWS, *FAILS_AT_REQUEST, *SILENTLY_THE_SAME, "unbalanced-bracket"}

    assert set(CODES) == beside
    assert len(CODES) >= 10


@pytest.mark.parametrize("policy_case", [BLOCKED], ids=["blocked"])
def test_the_sound_pack_denies_what_the_specimens_open(
    policy_case: PolicyCase, policy_set: PolicySet, world: World
) -> None:
    """What stock pycasbin allows with the broken files is denied by the sound pack."""
    decision = evaluate(policy_set, *situation(policy_set, world, policy_case))

    assert (decision.allowed, decision.rule) == (False, "hard-deny-03")


def stock(folder: Path, policy_set: PolicySet) -> Oracle:
    """Stock pycasbin over a folder, with the functions of the sound pack."""
    names = ["model.conf", *(f"policies/{path.name}" for path in (folder / "policies").glob("*.csv"))]
    return Oracle({name: (folder / name).read_bytes() for name in names}, policy_set)


def sound_case(policy_set: PolicySet, world: World, policy_case: PolicyCase) -> Case:
    """The situation of a policy case, past the checks that precede the rules."""
    case = Case.of(*situation(policy_set, world, policy_case))
    assert refuse_invalid(case, policy_set.vocabulary) is None
    return case
