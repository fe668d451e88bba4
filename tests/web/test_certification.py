"""
The AuthZEN 1.0 certification scenario, test by test, against a real process with the certification pack.

The ids are those of the scenario's matrix; the requests are its own.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.process.starter import Sidecar, run_cli, serving

PACK = ROOT / "examples" / "authzen-certification"
PUBLIC = "https://pdp.example.com"

MATRIX = {
    "Basic Core": ["2-2-1", "2-2-2", "2-2-3", "2-2-8", "2-2-9", "2-3", "2-4", "2-5", "2-6"],
    "Basic Properties": ["2-2-4", "2-2-5", "2-2-6", "2-2-7"],
    "Batch Core": ["3-2-1", "3-2-2", "3-2-5", "3-2-6", "3-3", "3-4"],
    "Batch Properties": ["3-2-3", "3-2-4", "3-2-7"],
    "Search Core": ["4-2-1", "4-2-2", "4-2-3", "4-3-1", "4-3-2", "4-3-3", "4-4-1", "4-4-2", "4-5", "4-6", "4-7"],
    "Search Properties": ["4-2-4", "4-3-4", "4-4-3"],
    "Discovery": ["6"],
}
IDS = ["C-" + number for numbers in MATRIX.values() for number in numbers]

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
CONTEXT = {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}
Ask = Callable[..., httpx.Response]
Check = Callable[[Ask], None]
CHECKS: dict[str, Check] = {}


def user(name: str | None, **properties: Any) -> dict[str, Any]:
    """A subject of the scenario."""
    return entity("user", name, properties)


def record(name: str | None, **properties: Any) -> dict[str, Any]:
    """A resource of the scenario."""
    return entity("record", name, properties)


def entity(kind: str, name: str | None, properties: dict[str, Any]) -> dict[str, Any]:
    """A typed entity, with an id and properties if there are any."""
    return {"type": kind} | ({"id": name} if name else {}) | ({"properties": properties} if properties else {})


def act(name: str, **properties: Any) -> dict[str, Any]:
    """An action of the scenario."""
    return {"name": name} | ({"properties": properties} if properties else {})


def asked(subject: Any, action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    """A request; what is None is left out."""
    whole = {"subject": subject, "action": action, "resource": resource}
    return {name: part for name, part in whole.items() if part is not None} | more


ALICE, BOB, R1, R2 = user("alice"), user("bob"), record("record-1"), record("record-2")
ARCHIVED, ADMIN = record("record-2", status="archived"), user("bob", role="admin")
READ, WRITE = act("read"), act("write")
SOUND = asked(ALICE, READ, R1)


def decides(expected: bool, body: dict[str, Any]) -> Check:
    """One evaluation with this decision, and nothing but what the format has."""

    def check(ask: Ask) -> None:
        answer = ask(EVALUATION, body)
        said = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert said["decision"] is expected, said
        assert isinstance(said.get("context", {}), dict)

    return check


def batch(body: dict[str, Any], *expected: bool | None) -> Check:
    """Several evaluations in order; None is any decision."""

    def check(ask: Ask) -> None:
        answer = ask(EVALUATIONS, body)
        said = answer.json()["evaluations"]
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert [type(each["decision"]) for each in said] == [bool] * len(expected)
        assert [wish if wish is None else each["decision"] for each, wish in zip(said, expected, strict=True)] == list(
            expected
        )
        assert all(isinstance(each.get("context", {}), dict) for each in said)

    return check


def search(target: str, body: dict[str, Any], *expected: str, like: dict[str, Any] | None = None) -> Check:
    """A search that finds at least these; exactly what *like* finds, if that is given."""

    def check(ask: Ask) -> None:
        answer = ask(f"/access/v1/search/{target}", body)
        results = answer.json()["results"]
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        key = "name" if target == "action" else "id"
        assert all(isinstance(each[key], str) for each in results)
        if target != "action":
            assert {each["type"] for each in results} == {body[target]["type"]}
        assert {each[key] for each in results} >= set(expected)
        if like is not None:
            assert results == ask(f"/access/v1/search/{target}", like).json()["results"]

    return check


def refused(path: str, *bodies: Any) -> Check:
    """Each is 400, with an error message and no decision."""

    def check(ask: Ask) -> None:
        for body in bodies:
            answer = ask(path, body)
            assert (answer.status_code, "decision" in answer.text) == (400, False), (body, answer.text)

    return check


def all_of(*checks: Check) -> Check:
    """Several checks under one id."""

    def check(ask: Ask) -> None:
        for each in checks:
            each(ask)

    return check


def _headers(ask: Ask) -> None:
    assert ask(EVALUATION, SOUND, **{"x-request-id": "bfe9eb29-ab87"}).headers["x-request-id"] == "bfe9eb29-ab87"
    assert ask(EVALUATION, {}, **{"x-request-id": "r-2"}).headers["x-request-id"] == "r-2"
    assert ask(EVALUATION, SOUND).status_code == 200


def _errors(ask: Ask) -> None:
    def without(name: str, part: str) -> dict[str, Any]:
        return SOUND | {name: {key: value for key, value in SOUND[name].items() if key != part}}

    refused(
        EVALUATION,
        *({name: part for name, part in SOUND.items() if name != missing} for missing in SOUND),
        without("subject", "type"), without("subject", "id"), without("action", "name"),
        without("resource", "type"), without("resource", "id"),
        b"", b"{", b'{"subject":', SOUND | {"subject": "alice"}, SOUND | {"action": {"name": 123}},
    )(ask)  # fmt: skip
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        assert ask(EVALUATION, SOUND, **{"content-type": kind}).status_code == 400


def _idempotent(ask: Ask) -> None:
    assert [ask(EVALUATION, SOUND).json()["decision"] for _ in range(5)] == [True] * 5


def _batch_errors(ask: Ask) -> None:
    whole = asked(ALICE, READ, None, options={"evaluations_semantic": "execute_all"})
    batch(whole | {"evaluations": [{"resource": R1}, {}]}, True, False)(ask)
    for body in (SOUND, SOUND | {"evaluations": []}):
        answer = ask(EVALUATIONS, body)
        assert (answer.status_code, answer.json()["decision"]) == (200, True)
    refused(EVALUATIONS, b"", b"{", {"evaluations": "x"})(ask)


def _paging(ask: Ask) -> None:
    path, body = "/access/v1/search/subject", asked(user(None), READ, R1)
    first = ask(path, body | {"page": {"limit": 1}}).json()
    assert len(first["results"]) == 1 and first["page"]["next_token"]
    found, token = first["results"], first["page"]["next_token"]
    while token:
        answer = ask(path, body | {"page": {"token": token}})
        page = answer.json()
        assert (answer.status_code, type(page["page"]["next_token"])) == (200, str)
        found, token = found + page["results"], page["page"]["next_token"]
    assert [each["id"] for each in found] == ["alice", "bob"]


def _empty(ask: Ask) -> None:
    nobody, ship = user("nonexistent-user"), {"type": "spaceship"}
    unknown, kindless = record("nonexistent-record"), {"type": "spaceship", "id": "record-1"}
    for target, body in (
        ("action", asked(nobody, None, R1)), ("subject", asked(ship, READ, R1)),
        ("action", asked(ALICE, None, unknown)), ("action", asked(ship | {"id": "alice"}, None, R1)),
        ("action", asked(ALICE, None, kindless)), ("subject", asked(user(None), READ, unknown)),
        ("subject", asked(user(None), READ, kindless)), ("subject", asked(user(None), act("fly"), R1)),
        ("resource", asked(nobody, READ, record(None))), ("resource", asked(ALICE, READ, ship)),
        ("resource", asked(ship | {"id": "alice"}, READ, record(None))),
    ):  # fmt: skip
        answer = ask(f"/access/v1/search/{target}", body)
        assert (answer.status_code, answer.json()["results"]) == (200, []), (target, body)


def _discovery(ask: Ask) -> None:
    answer = ask("/.well-known/authzen-configuration", None)
    told = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert told.pop("policy_decision_point") == PUBLIC
    assert told.pop("supported_obligations") == []  # of the draft obligations profile; the pack has none
    assert told == {
        "access_evaluation_endpoint": PUBLIC + EVALUATION,
        "access_evaluations_endpoint": PUBLIC + EVALUATIONS,
        **{
            f"search_{each}_endpoint": f"{PUBLIC}/access/v1/search/{each}" for each in ("subject", "resource", "action")
        },
    }


WHO_READS, WHAT_ALICE_READS = asked(user(None), READ, R1), asked(ALICE, READ, record(None))
WHAT_ALICE_DOES = asked(ALICE, None, R1)
CHECKS = {
    "C-2-2-1": decides(True, SOUND),
    "C-2-2-2": decides(False, asked(BOB, WRITE, R1)),
    "C-2-2-3": decides(True, SOUND | {"context": CONTEXT}),
    "C-2-2-4": decides(False, asked(ALICE, WRITE, ARCHIVED)),
    "C-2-2-5": decides(True, asked(ADMIN, WRITE, ARCHIVED)),
    "C-2-2-6": decides(True, asked(ALICE, act("delete", soft=True), R1)),
    "C-2-2-7": decides(False, asked(ALICE, act("delete", soft=False), R1)),
    "C-2-2-8": decides(True, asked(user("alice", department="Sales", role="manager"), act("read", method="GET"),
                                   record("record-1", status="active", owner="bob"))),
    "C-2-2-9": decides(True, SOUND | {"foo": "bar", "futureField": {"nested": True}}),
    "C-2-3": all_of(decides(True, SOUND), decides(False, asked(BOB, WRITE, R1)), decides(True, asked(ALICE, WRITE, R1)),
                    decides(True, asked(BOB, READ, R1))),
    "C-2-4": _errors,
    "C-2-5": _headers,
    "C-2-6": _idempotent,
    "C-3-2-1": batch(asked(ALICE, READ, None, evaluations=[{"resource": R1}, {"resource": R2}]), None, None),
    "C-3-2-2": batch(asked(BOB, None, R1, evaluations=[{"action": READ}, {"action": WRITE}]), True, False),
    "C-3-2-3": batch(asked(ALICE, WRITE, None, evaluations=[
        {"resource": record("record-1", status="active")}, {"resource": ARCHIVED}]), True, False),
    "C-3-2-4": batch(asked(None, WRITE, ARCHIVED, evaluations=[{"subject": ALICE}, {"subject": ADMIN}]), False, True),
    "C-3-2-5": batch({"evaluations": [SOUND, asked(BOB, WRITE, R1)]}, True, False),
    "C-3-2-6": batch(asked(ALICE, READ, None, context={"time": "2025-06-27T18:03-07:00"}, evaluations=[
        {"resource": R1}, {"resource": R2, "context": {"time": "2025-06-27T19:00-07:00", "source": "batch-override"}}]),
        None, None),
    "C-3-2-7": batch(asked(ALICE, WRITE, record("record-1", status="active"),
                           evaluations=[{}, {"resource": ARCHIVED}]), True, False),
    "C-3-3": batch({"evaluations": [SOUND, asked(BOB, WRITE, R1), SOUND, asked(BOB, WRITE, R1)]},
                   True, False, True, False),
    "C-3-4": _batch_errors,
    "C-4-2-1": search("subject", WHO_READS, "alice", "bob"),
    "C-4-2-2": search("subject", WHO_READS | {"context": CONTEXT}, "alice", "bob", like=WHO_READS),
    "C-4-2-3": search("subject", WHO_READS | {"subject": ALICE}, "alice", "bob", like=WHO_READS),
    "C-4-2-4": search("subject", asked(user(None), WRITE, ARCHIVED), "bob"),
    "C-4-3-1": search("resource", WHAT_ALICE_READS, "record-1"),
    "C-4-3-2": search("resource", WHAT_ALICE_READS | {"context": CONTEXT}, "record-1", like=WHAT_ALICE_READS),
    "C-4-3-3": search("resource", WHAT_ALICE_READS | {"resource": R1}, "record-1", like=WHAT_ALICE_READS),
    "C-4-3-4": search("resource", asked(ADMIN, WRITE, record(None)), "record-2"),
    "C-4-4-1": search("action", WHAT_ALICE_DOES, "read", "write"),
    "C-4-4-2": search("action", WHAT_ALICE_DOES | {"context": CONTEXT}, "read", "write", like=WHAT_ALICE_DOES),
    "C-4-4-3": search("action", asked(ADMIN, None, ARCHIVED), "write"),
    "C-4-5": _paging,
    "C-4-6": _empty,
    "C-4-7": all_of(
        refused("/access/v1/search/subject", asked(user(None), None, R1), asked(None, READ, R1),
                asked(user(None), READ, None), asked(user(None), READ, record(None)), b"", b"["),
        refused("/access/v1/search/resource", asked(None, READ, record(None)), asked(user(None), READ, record(None)),
                asked(ALICE, None, record(None)), asked(ALICE, READ, None)),
        refused("/access/v1/search/action", asked(ALICE, None, None), asked(user(None), None, R1),
                asked(None, None, R1)),
    ),
    "C-6": _discovery,
}  # fmt: skip


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The process that the example's page starts."""
    folder = tmp_path_factory.mktemp("certification")
    settings = {"pack": str(PACK), "policy_dir": str(folder / "policy"), "public_url": PUBLIC, "json_search": "true"}
    with serving(folder, **settings) as process:
        yield process


@pytest.fixture
def ask(sidecar: Sidecar) -> Ask:
    """Post a body; read the metadata where there is none."""

    def call(path: str, body: Any, **headers: str) -> httpx.Response:
        if body is None:
            return sidecar.call("json", "GET", path)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return sidecar.call(
            "json", "POST", path, content=content, headers={"content-type": "application/json"} | headers
        )

    return call


def test_every_test_of_the_scenario_is_here() -> None:
    """The matrix has 37 tests, and each is run once."""
    assert len(IDS) == len(set(IDS)) == 37
    assert set(CHECKS) == set(IDS)


@pytest.mark.parametrize("number", IDS)
def test_certification(number: str, ask: Ask) -> None:
    """Each test of the scenario, by its id."""
    CHECKS[number](ask)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (asked(user("mallory", role="admin"), WRITE, ARCHIVED), False),
        (asked(ALICE, WRITE, record("record-2", status="active")), False),
        (asked(ADMIN, WRITE, record("record-1", status="archived")), False),
        (asked(user("bob", role="manager"), WRITE, ARCHIVED), False),
        (asked(BOB, WRITE, R2), True),
        (asked(BOB, WRITE, record("record-2", status=None)), True),
        (asked(ALICE, WRITE, record("record-9", status="active")), True),
        (asked(ALICE, READ, record("record-9")), False),
        (asked(ALICE, READ, {"type": "record\x1frecord-1", "id": "x"}), None),
        (asked(user("record\x1frecord-1"), READ, R1), None),
        (asked(ALICE, WRITE, record("record-1", patient="p1")), False),
        (asked(ALICE, act("delete", soft=1), R1), None),
        (asked(ALICE, act("delete", soft="true"), R1), None),
        (asked(ALICE, WRITE, record("record-2", status=["archived"])), None),
        (asked(user("bob", role=True), WRITE, ARCHIVED), None),
    ],
)  # fmt: skip
def test_what_is_stated_narrows_and_is_of_its_kind(body: dict[str, Any], expected: bool | None, ask: Ask) -> None:
    """A stated value against the directory's counts for nothing; a wrong kind is 400; stored values stand alone."""
    answer = ask(EVALUATION, body)

    assert answer.status_code == (400 if expected is None else 200)
    assert expected is None or answer.json()["decision"] is expected


def test_the_pack_is_checked_strictly_and_keeps_its_promises(tmp_path: Path) -> None:
    """`ruqsat policy check --strict` and `policy test` pass on it; the model is the product's own."""
    for words in (("check", "--strict"), ("test",)):
        ran = run_cli(tmp_path, "policy", *words, str(PACK))
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (PACK / "model.conf").read_bytes() == (ROOT / "model.conf").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("optional = true, stated = true", "stated = true", "bad-vocabulary"),
        ('kind = "yes-no", optional', 'kind = "list", optional', "bad-vocabulary"),
        ("status     = { means", 'conf = { means = "x", optional = true, stated = true }\nstatus = { means', "bad-vocab"),
        ("status     = { means", 'shade = { means = "x", optional = true }\nstatus = { means', "unknown-attribute"),
        ("[attributes.ctx]", '[attributes.ctx]\nmood = { means = "x", optional = true, stated = true }', "bad-vocab"),
        ('record = "public"', 'record = "secret"', "bad-vocabulary"),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_be_kept_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    """Taken names, kinds that cannot be stated, attributes that nothing supplies, classes of somebody: errors."""
    pack = tmp_path / "pack"
    shutil.copytree(PACK, pack)
    vocabulary = pack / "policies" / "vocabulary.toml"
    text = vocabulary.read_text()
    assert old in text
    vocabulary.write_text(text.replace(old, new, 1))

    ran = run_cli(tmp_path, "policy", "check", str(pack))

    assert (ran.returncode, told in ran.stdout + ran.stderr) == (1, True), ran.stdout + ran.stderr
