"""What helps to write rules does what it says: format, coverage, mutation, differences, the map of the law, explanation."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from ruqsat.cli.main import app
from ruqsat.cli.policy_author import SCHEMAS, schema_of
from ruqsat.core.admission import read_cases
from ruqsat.core.authoring.counterfactual import smallest_changes
from ruqsat.core.authoring.formatting import format_rules
from ruqsat.core.authoring.law_trace import OutOfReach, trace_law
from ruqsat.core.authoring.mutation import mutants, survives
from ruqsat.core.authoring.tracing import Tracer
from ruqsat.core.case import Case
from ruqsat.core.cases import PolicyCase, Stage, read_world, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.pack import read_parts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.rows import split_cells
from ruqsat.core.sampling import situations
from ruqsat.core.validity import refuse_invalid
from ruqsat.errors import JournalError
from tests.conftest import ROOT

WORLD = "policies/fixtures/world.toml"
CAPABLE = frozenset({"require_eds", "audit", "provenance", "redact"})


@pytest.fixture(autouse=True)
def small_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask fewer of the combinations that no changed rule reaches."""
    monkeypatch.setattr("ruqsat.core.authoring.decision_diff.LATTICE", 1500)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the pack that a test may change."""
    folder = tmp_path / "pack"
    shutil.copytree(ROOT / "policies", folder / "policies")
    shutil.copy(ROOT / "model.conf", folder)
    return folder


def run(*words: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, [str(word) for word in words])


def edit(pack: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a file of the pack."""
    path = pack / "policies" / name
    before = path.read_text()
    assert change(before) != before
    path.write_text(change(before))


# ---- fmt -----------------------------------------------------------------------------------------------


def test_formatting_twice_is_formatting_once_and_changes_no_meaning() -> None:
    """Whatever the blanks and the empty lines were: the same cells, every comment, one form."""
    dice = random.Random(20261124)
    for path in sorted((ROOT / "policies").glob("*.csv")):
        text = path.read_text()
        untidy = re.sub(r",(?![^(]*\))", lambda _: dice.choice([",", " , ", ",   "]), text)
        untidy = "".join(line + dice.choice(["\n", "  \n", "\n\n\n"]) for line in untidy.split("\n"))
        once = format_rules(untidy)
        cells = [split_cells(line) for line in text.splitlines() if line and line[0] != "#"]

        assert format_rules(once) == once
        assert [split_cells(line) for line in once.splitlines() if line and line[0] != "#"] == cells
        comments = [
            [re.sub(r"[\s,]+", "", line) for line in each.splitlines() if line[:1] == "#"] for each in (once, text)
        ]
        assert comments[0] == comments[1]
        assert format_rules(text) == text, f"{path.name} is not in its form"


def test_blanks_inside_a_literal_are_kept() -> None:
    """Two blanks in a text that a condition compares are two blanks."""
    assert format_rules("p,1,a-01,x,y,z,w, r.sub.org  ==  'a  b',deny\n") == (
        "p, 1, a-01, x, y, z, w, r.sub.org  ==  'a  b', deny\n"
    )


def test_fmt_check_tells_and_fmt_mends(pack: Path) -> None:
    """`--check` changes nothing and exits 1; without it the file is written, and the pack is sound."""
    edit(pack, "consent.csv", lambda text: text.replace("p, 1300, ", "p,1300,  "))
    spoilt = (pack / "policies/consent.csv").read_bytes()

    told = run("policy", "fmt", "--check", pack)
    assert (told.exit_code, (pack / "policies/consent.csv").read_bytes()) == (1, spoilt)
    assert "would change  policies/consent.csv" in told.stdout
    assert run("policy", "fmt", pack).exit_code == 0
    assert run("policy", "fmt", "--check", pack).exit_code == 0
    assert (pack / "policies/consent.csv").read_bytes() == (ROOT / "policies/consent.csv").read_bytes()


# ---- coverage and mutation -----------------------------------------------------------------------------


@pytest.mark.slow
def test_coverage_falls_with_the_cases_and_names_what_is_missing(pack: Path) -> None:
    """Without its cases a rule decided nothing, and `--fail-under` stops the commit."""
    before = json.loads(run("policy", "coverage", pack, "--json").stdout)["percent"]
    (pack / "policies/consent.test.toml").unlink()

    after = run("policy", "coverage", pack, "--fail-under", before)

    assert after.exit_code == 1
    assert re.search(r"consent-04 +decided 0 cases\n    it decided no case", after.stdout)
    assert run("policy", "coverage", ROOT, "--fail-under", 70).exit_code == 0


def test_cases_that_fail_cover_nothing(pack: Path) -> None:
    """Neither coverage nor mutation has a score of cases that are not as promised."""
    edit(pack, "consent.test.toml", lambda text: text.replace('because = "consent-01"', 'because = "consent-02"', 1))

    for command in ("coverage", "mutate"):
        done = run("policy", command, pack)
        assert (done.exit_code != 0, done.stdout) == (True, "")
        assert "the cases fail already" in str(done.exception)


def test_a_row_of_the_matrix_is_needed_by_cases_that_come_as_far(pack: Path) -> None:
    """What nobody may do needs no row: with that case alone every row is unused."""
    for file in (pack / "policies").glob("*.test.toml"):
        file.unlink()
    case = """
        [[case]]
        name = "nobody reads what is blocked"
        ask = "dr_aida read o1 TREAT"
        expect = "deny.resource.blocked"
        because = "hard-deny-03"
        resource = { patient = "p-dana", class = "labs", labels = [], blocked = true }
    """
    (pack / "policies/hard-deny.test.toml").write_text(case)

    covered = json.loads(run("policy", "coverage", pack, "--json").stdout)["coverage"]

    assert len(covered["matrix_unused"]) == covered["matrix_rows"] > 30


def test_a_mutant_is_noticed_by_the_case_that_holds_its_rule_and_by_no_other(
    pack_texts: dict[str, bytes], policy_set: PolicySet
) -> None:
    """A rule taken away is missed by a case that names it; without the case nothing misses it."""
    parts, _ = read_parts(pack_texts)
    assert parts is not None
    world = read_world(pack_texts, WORLD)
    case = PolicyCase("a physician reads", "dr_aida read o1 TREAT", "allow.consent", "consent-01")
    without = next(m for m in mutants(parts, "consent.csv") if m.change == "taken away")

    assert not survives(without, parts, world, {"consent.test.toml": (case,)})
    assert survives(without, parts, world, {"consent.test.toml": ()})


def test_what_the_checker_refuses_is_no_hole_in_the_cases(pack_texts: dict[str, bytes]) -> None:
    """A permit without its ground, an attribute read unasked: neither could come in force; a wider class could."""
    parts, _ = read_parts(pack_texts)
    assert parts is not None
    world = read_world(pack_texts, WORLD)
    spoilt = {(m.name, m.change): m for m in mutants(parts)}

    for name, change, hole in [
        ("consent-01", "`granted(r.sub, r.act, r.res, r.ctx)` dropped", False),
        ("operator-07", "`is_known(r.res, 'author_org')` dropped", False),
        ("consent-01", "class widened to any", True),
    ]:
        assert survives(spoilt[name, change], parts, world, {}) is hole


def test_mutants_are_of_every_kind(pack_texts: dict[str, bytes]) -> None:
    """Effects, conditions, duties, cells, whole rows, links of hierarchies, rows of the role matrix."""
    parts, _ = read_parts(pack_texts)
    assert parts is not None
    changes = " | ".join(mutant.change for mutant in mutants(parts))

    for kind in (
        "taken away",
        "flipped to deny",
        "flipped to allow",
        "dropped",
        "widened to any",
        "put under",
        "duties",
    ):
        assert kind in changes
    assert {mutant.place.file for mutant in mutants(parts, "refusals.csv")} == {"policies/refusals.csv"}


def test_a_denial_that_lets_one_word_go_is_a_mutant_of_its_own(
    pack_texts: dict[str, bytes], policy_set: PolicySet
) -> None:
    """Each action, class, purpose and alternative that a rule closes is held by a case, or listed."""
    rows = b"p, 100, hard-deny-90, *, update delete, labs, *, r.sub.active || r.res.destroyed, deny, record.closed, -, R24\n"
    parts, _ = read_parts(pack_texts | {"policies/hard-deny.csv": pack_texts["policies/hard-deny.csv"] + rows})
    assert parts is not None
    spoilt = {each.change: each for each in mutants(parts, "hard-deny.csv") if each.name == "hard-deny-90"}

    narrowed = spoilt["`delete` taken out of act"].rows
    assert {row.text("act") for row in narrowed if row.kind == "p" and row.text("id") == "hard-deny-90"} == {"update"}
    assert {"`update` taken out of act", "`r.sub.active` dropped of the alternatives"} <= set(spoilt)
    assert not any("taken out" in each.change for each in mutants(parts, "consent.csv"))
    stage = Stage(read_world(pack_texts, WORLD))
    changes = {"resource": {"patient": "p-dana", "class": "labs", "labels": []}}
    updates, deletes = (
        PolicyCase(verb, f"dr_aida {verb} o1 TREAT", "deny.record.closed", "hard-deny-90", **changes)
        for verb in ("update", "delete")
    )
    assert survives(spoilt["`delete` taken out of act"], parts, stage, {"": (updates,)})
    assert not survives(spoilt["`delete` taken out of act"], parts, stage, {"": (updates, deletes)})
    assert not survives(spoilt["`r.sub.active` dropped of the alternatives"], parts, stage, {"": (updates,)})


@pytest.mark.slow
def test_mutate_lists_survivors_and_fails_on_them(pack: Path) -> None:
    """Exit 1 with the place and the change that no case notices; exit 0 when enough are noticed."""
    done = run("policy", "mutate", pack, "--file", "refusals.csv", "--json")
    said = json.loads(done.stdout)

    assert said["tried"] > 5
    assert (done.exit_code == 1) is bool(said["survivors"])
    assert run("policy", "mutate", pack, "--file", "refusals.csv", "--fail-under", 1).exit_code == 0
    assert run("policy", "mutate", pack, "--file", "nothing.csv").exit_code != 0


# ---- diff ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pack_differs_from_itself_in_nothing(pack: Path) -> None:
    """Exit 0, and the number of situations asked, which is not none."""
    done = run("policy", "diff", ROOT, pack, "--sample", 100, "--json")

    said = json.loads(done.stdout)
    assert (done.exit_code, said["differences"]) == (0, [])
    assert said["asked"] > 5000


@pytest.mark.slow
def test_a_new_allow_stops_unless_its_rule_is_accepted(pack: Path) -> None:
    """Who gains what, by which rule, with an example; the other way round it is a loss and no stop."""
    edit(pack, "consent.csv", lambda text: text.replace(" && is_cared_for(r.ctx)", "", 2))

    gained = run("policy", "diff", ROOT, pack, "--sample", 0, "--json")
    accepted = run("policy", "diff", ROOT, pack, "--sample", 0, "--accept", "consent-01", "--accept", "consent-02")
    lost = run("policy", "diff", pack, ROOT, "--sample", 0, "--json")

    found = json.loads(gained.stdout)["differences"]
    assert (gained.exit_code, accepted.exit_code, lost.exit_code) == (1, 0, 0)
    assert {each["kind"] for each in found} == {"gained"}
    assert {"consent-01", "consent-02"} == {each["after"][1] for each in found}
    assert {each["role"] for each in found} >= {"physician", "nurse"}
    assert all(each["example"] and each["before"][1] == "silence" for each in found)
    assert {each["kind"] for each in json.loads(lost.stdout)["differences"]} == {"lost"}
    assert "GAINED (accepted) physician" in accepted.stdout


@pytest.mark.slow
def test_a_permit_with_fewer_duties_stops_as_a_new_one_does(pack: Path) -> None:
    """Whoever was told of, or had to sign, and is no more: eased, until its rule is accepted; a further duty is no stop."""
    edit(pack, "consent.csv", lambda text: text.replace(", notify_subject, R3", ", -, R3", 1))

    eased = run("policy", "diff", ROOT, pack, "--sample", 0, "--json")
    accepted = run("policy", "diff", ROOT, pack, "--sample", 0, "--accept", "consent-01")
    back = run("policy", "diff", pack, ROOT, "--sample", 0, "--json")

    found = json.loads(eased.stdout)["differences"]
    assert (eased.exit_code, accepted.exit_code, back.exit_code) == (1, 0, 0)
    assert {(each["kind"], each["after"][1]) for each in found} == {("eased", "consent-01")}
    assert {each["besides"] for each in found} == {"duties notify_subject -> none"}
    assert "    with duties notify_subject -> none\n" in accepted.stdout
    assert {each["kind"] for each in json.loads(back.stdout)["differences"]} == {"moved"}


@pytest.mark.slow
def test_what_an_enforcement_point_must_do_itself_hides_no_permit(pack: Path) -> None:
    """The pack's blocking duties can be carried out where it is asked: a permit that needs one is gained, and told."""
    edit(pack, "research.csv", lambda text: text.replace("&& !is_small_cohort(r.ctx) && is_known(r.ctx, 'pep", "&& is_known(r.ctx, 'pep", 1))  # fmt: skip
    case = """
        [[case]]
        name = "a cohort of two"
        ask = "an_timur search cohort HPRGRP"
        expect = "allow.deidentified"
        because = "research-02"
        resource = { patient = "p-dana", class = "labs" }
        context = { cohort_size = 2, pep_capabilities = ["deidentify"] }
    """
    edit(pack, "research.test.toml", lambda text: text + case)

    done = run("policy", "diff", ROOT, pack, "--sample", 0, "--json")

    found = json.loads(done.stdout)["differences"]
    assert (done.exit_code, {(each["kind"], each["after"][1]) for each in found}) == (1, {("gained", "research-02")})


@pytest.mark.slow
def test_the_same_documents_are_worth_what_the_switches_of_each_set_say(pack: Path) -> None:
    """A consent that counts under the new position of a switch, and did not before, lets somebody in: gained."""
    world = "fixtures/world.toml"
    edit(pack, world, lambda text: text.replace("[consents.c-dana-h1]\n", "[consents.c-dana-h1]\ncontroller_is_state = true\n"))  # fmt: skip
    before = pack.parent / "before"
    shutil.copytree(pack, before)
    switch = "state_controller_needs_state_service"
    edit(pack, "vocabulary.toml", lambda text: text.replace(f"{switch} = true", f"{switch} = false"))

    done = run("policy", "diff", before, pack, "--sample", 0, "--json")

    said = json.loads(done.stdout)
    assert done.exit_code == 1
    assert ("gained", "consent-01") in {(each["kind"], each["after"][1]) for each in said["differences"]}
    assert said["unshown"] == [f"switches.{switch}"]


@pytest.mark.slow
def test_what_is_written_otherwise_and_no_answer_shows_is_named_and_stops(pack: Path) -> None:
    """A switch, a route, a wider rule, a row of the matrix, a link: named until it is accepted; an explanation is none."""
    before = pack.parent / "before"
    shutil.copytree(pack, before)
    edit(pack, "vocabulary.toml", lambda text: text.replace('"medical worker"', '"works in medicine"'))
    edit(pack, "routes.toml", lambda text: "# Nothing but a comment.\n" + text)
    worded = run("policy", "diff", before, pack, "--sample", 0, "--json")

    edit(
        pack,
        "vocabulary.toml",
        lambda text: text.replace("delegation_max_depth        = 1", "delegation_max_depth = 2"),
    )
    edit(
        pack,
        "vocabulary.toml",
        lambda text: text.replace('"allow.consent" }', '"allow.consent", without_store = true }'),
    )
    edit(pack, "routes.toml", lambda text: text.replace('action  = "delete"', 'action  = "read"'))
    edit(pack, "role-matrix.csv", lambda text: text + "p5, sysadmin, HSYSADMIN, read, vitals, allow, R5\n")
    edit(pack, "hierarchies.csv", lambda text: text.replace("g5, ETHUD, SUD\n", ""))
    edit(
        pack,
        "representation.csv",
        lambda text: re.sub(r"(representation-05, [^,]*, [^,]*, [^,]*), [^,]*,", r"\1, *,", text),
    )
    named = run("policy", "diff", before, pack, "--sample", 0, "--json")
    hidden = json.loads(named.stdout)["unshown"]
    accepting = [word for name in hidden for word in ("--accept", name)]
    accepted = run("policy", "diff", before, pack, "--sample", 0, *accepting)

    assert (worded.exit_code, json.loads(worded.stdout)["unshown"]) == (0, [])
    assert (named.exit_code, hidden) == (1, [
        "representation-05", "role-matrix.csv", "hierarchies.csv", "bases.consent.without_store",
        "switches.delegation_max_depth", "routes.toml",
    ])  # fmt: skip
    assert accepted.exit_code == 0
    assert "UNSHOWN (accepted) routes.toml: " in accepted.stdout


@pytest.mark.slow
def test_what_a_journal_recorded_is_asked_too(pack: Path, tmp_path: Path) -> None:
    """A request of the journal finds a change that nothing else was asked about."""
    folder = tmp_path / "journal"
    folder.mkdir()
    line = {"kind": "decision", "roles": ["physician"], "action": "read", "purpose": ["TREAT"], "patient": "p",
            "data_class": "labs", "subject": "s"}  # fmt: skip
    (folder / "segment-00000001.jsonl").write_text('{"kind":"segment"}\n' + json.dumps(line) + "\n" + "torn")

    with_it = json.loads(run("policy", "diff", ROOT, pack, "--sample", 0, "--journal", folder, "--json").stdout)
    without = json.loads(run("policy", "diff", ROOT, pack, "--sample", 0, "--json").stdout)

    assert with_it["asked"] == without["asked"] + 6
    assert isinstance(run("policy", "diff", ROOT, pack, "--sample", 0, "--journal", tmp_path).exception, JournalError)


# ---- trace-law -----------------------------------------------------------------------------------------


def test_every_paragraph_is_traced_or_has_its_reason(pack: Path) -> None:
    """All 31; take a paragraph's rules or its exemption away and the command fails."""
    done = run("policy", "trace-law", ROOT, "--json")
    paragraphs = json.loads(done.stdout)["paragraphs"]
    assert (done.exit_code, len(paragraphs)) == (0, 31)
    assert all(each["rules"] and each["cases"] for each in paragraphs if each["standing"] == "traced")
    assert all(each["reason"] for each in paragraphs if each["standing"] != "traced")

    edit(pack, "out-of-reach.toml", lambda text: re.sub(r'R2 = ".*"\n', "", text))
    assert run("policy", "trace-law", pack).exit_code == 1


def test_a_paragraph_without_its_rules_or_without_their_cases_is_missing(policy_set: PolicySet) -> None:
    """A rule that no case names keeps nothing."""
    traced = {each.key: each for each in trace_law(policy_set, {}, OutOfReach())}

    assert traced["R14"].standing == "missing"
    assert "no case" in traced["R14"].reason
    assert traced["R31"].rules


def test_a_case_that_is_not_as_promised_holds_no_paragraph(pack: Path) -> None:
    """Where the rule does not do what its cases say, nothing shows that the paragraph is kept."""
    for file in (pack / "policies").glob("*.test.toml"):
        file.write_text(re.sub(r'(?m)^expect( *)= ".*"$', r'expect\1= "deny.never"', file.read_text()))

    done = run("policy", "trace-law", pack, "--json")

    standing = {each["standing"] for each in json.loads(done.stdout)["paragraphs"]}
    assert (done.exit_code, standing) == (1, {"missing", "defines", "outside"})


@pytest.mark.parametrize("section", ["outside", "defines"])
def test_a_paragraph_that_decisions_can_settle_is_no_exemption(pack: Path, section: str) -> None:
    """Only what the order leaves to people, registers and infrastructure may be declared outside, only words as defined."""
    edit(pack, "out-of-reach.toml", lambda text: text.replace(f"[{section}]\n", f'[{section}]\nR14 = "too hard"\n'))

    assert run("policy", "trace-law", pack).exit_code != 0
    assert "`R14` can be settled by decisions" in run("policy", "check", pack).stdout


# ---- explain -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_slow_trace_finds_the_rule_that_the_evaluator_finds(policy_set: PolicySet) -> None:
    """2,000 situations: the same rule settles, and every rule before it names what it failed at."""
    settled = 0
    for _, each in zip(range(2000), situations(policy_set, 3), strict=False):
        case = Case.of(*each)
        if refuse_invalid(case, policy_set.vocabulary) is not None:
            continue
        rule = policy_set.candidates_for(case).first(case)
        traces = list(Tracer(policy_set).settled_by(case))
        assert all(trace.failed for trace in traces[:-1])
        assert (traces[-1].rule if traces[-1].matched else None) is rule
        settled += rule is not None
    assert settled > 500


def test_a_change_that_would_allow_is_small_and_does_allow(pack_texts: dict[str, bytes], policy_set: PolicySet) -> None:
    """Single changes before pairs; none for what is allowed already."""
    world = read_world(pack_texts, WORLD)
    wrong_purpose = situation(policy_set, world, PolicyCase("", "dr_aida read o1 HPAYMT", ""))
    stranger = situation(policy_set, world, PolicyCase("", "dr_erlan read o1 TREAT", ""))

    assert ("state the purpose `TREAT`",) in smallest_changes(policy_set, wrong_purpose, CAPABLE)
    pairs = smallest_changes(policy_set, stranger, CAPABLE)
    assert ("the patient consents to it", "the subject's organisation takes part in the patient's care") in pairs
    assert not evaluate(policy_set, *stranger, CAPABLE).allowed


def test_explain_names_the_conjunct_and_the_way_out(tmp_path: Path) -> None:
    """For a person in words, for a machine as data."""
    request = tmp_path / "r.json"
    request.write_text(json.dumps({
        "subject": {"type": "user", "id": "dr_erlan"}, "action": {"name": "read"},
        "resource": {"type": "Record", "id": "o1", "properties": {"patient": "p-dana", "class": "labs"}},
        "context": {"purpose": ["TREAT"]},
    }))  # fmt: skip

    moment = ("--at", "2026-11-24T10:00:00+05:00", "--pack", ROOT)
    shown = run("explain", request, *moment)
    every = json.loads(run("explain", request, *moment, "--all", "--json").stdout)

    assert "consent-01 (allow): fails at granted(r.sub, r.act, r.res, r.ctx)" in shown.stdout
    assert "it would be allowed if:\n  - " in shown.stdout
    failed = {each["rule"]: each["failed"] for each in every["asked"]}
    assert failed["self-access-01"] == "role `patient`"
    rules = [line for file in ROOT.glob("policies/*.csv") for line in file.read_text().splitlines() if line[:2] == "p,"]
    assert len(failed) == len(rules)
    assert every["would_allow"]


def test_explain_decides_as_the_cases_do(pack_texts: dict[str, bytes], policy_set: PolicySet, tmp_path: Path) -> None:
    """A recipient, the other patients of a request: whoever stands in the world is known to what is explained."""
    stage = Stage(read_world(pack_texts, WORLD))
    cases = [
        case for group in read_cases(pack_texts)[0].values() for case in group
        if case.context.get("recipient") and not (case.switches or case.without)
    ]  # fmt: skip
    others = PolicyCase(
        "of two patients", "dr_aida read two TREAT", "",
        resource={"patient": "p-dana", "class": "labs", "labels": [], "atomic": True, "parts": [
            {"id": "o1"}, {"id": "o9", "patient": "p-zhanna", "class": "labs"},
        ]},
    )  # fmt: skip
    told = set()
    for case in (*cases, others):
        asked = situation(policy_set, stage, case)
        request = tmp_path / "request.json"
        request.write_bytes(msgspec.json.encode(asked[0]))
        shown = json.loads(run("explain", request, "--pack", ROOT, "--at", case.at.isoformat(), "--json").stdout)
        decided = evaluate(policy_set, *asked, CAPABLE | {"suppress_total", "deidentify", "pseudonymize"})
        assert shown["explain"] == json.loads(msgspec.json.encode(decided)), case.name
        told.add(decided.reason)

    assert {"allow.consent", "allow.statutory", "deny.recipient.no_undertaking"} <= told


# ---- for editors and reviews ---------------------------------------------------------------------------


def test_findings_as_annotations_of_a_review(pack: Path) -> None:
    """One line a finding, at its file and line; a failed case is one too."""
    edit(pack, "hard-deny.csv", lambda text: text.replace(", deny,", ", dney,", 1))
    checked = run("policy", "check", pack, "--format", "github")
    assert checked.exit_code == 1
    assert re.match(
        r"::error file=policies/hard-deny.csv,line=\d+,col=\d+,title=unknown-effect::effect `dney`", checked.stdout
    )

    edit(pack, "hard-deny.csv", lambda text: text.replace("dney", "deny"))
    edit(pack, "consent.test.toml", lambda text: text.replace('because = "consent-01"', 'because = "consent-02"', 1))
    tested = run("policy", "test", pack, "--format", "github")
    assert (tested.exit_code, tested.stdout.count("::error file=policies/consent.test.toml,title=case-failed::")) == (
        1,
        1,
    )


def test_a_problem_matcher_reads_what_check_prints(pack: Path) -> None:
    """An editor that is given examples/editors/problem-matcher.json finds file, line, column, severity, code, message."""
    matcher = json.loads((ROOT / "examples/editors/problem-matcher.json").read_text())["problemMatcher"][0]["pattern"][
        0
    ]
    edit(pack, "hard-deny.csv", lambda text: text.replace(", deny,", ", dney,", 1))

    found = re.search(matcher["regexp"], run("policy", "check", pack).stdout, re.MULTILINE)

    assert found is not None
    names = ("file", "line", "column", "severity", "code", "message")
    told = {name: found.group(matcher[name]) for name in names}
    assert (told["file"], told["severity"], told["code"]) == ("policies/hard-deny.csv", "error", "unknown-effect")
    assert told["line"].isdigit()
    assert "dney" in told["message"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_in_the_docs_is_the_one_that_the_program_prints(name: str) -> None:
    """`ruqsat policy schema` writes docs/schemas."""
    printed = json.loads(run("policy", "schema", name).stdout)

    assert (
        printed
        == json.loads((ROOT / "docs/schemas" / f"{name}.schema.json").read_text())
        == json.loads(json.dumps(schema_of(name)))
    )


def test_the_hooks_and_the_workflow_call_commands_that_exist() -> None:
    """Each `ruqsat policy …` in the hooks and in the example workflow is a command with these options."""
    for file in (".pre-commit-hooks.yaml", "examples/ci/policy.yml"):
        commands = re.findall(r"ruqsat policy ([a-z-]+)((?: --[a-z-]+)*)", (ROOT / file).read_text())
        assert commands, file
        for command, options in commands:
            helped = run("policy", command, "--help")
            assert helped.exit_code == 0
            for option in options.split():
                assert option in re.sub(r"\x1b\[[0-9;]*m", "", helped.stdout), (file, command, option)


def test_the_shipped_pack_is_sound_without_a_warning() -> None:
    """`policy check --strict`: nothing to say, on the day of its review."""
    done = run("policy", "check", ROOT, "--strict", "--today", "2026-11-24")
    assert (done.exit_code, " rules, no errors; policy set " in done.stdout and "warning" not in done.stdout) == (
        0,
        True,
    ), done.stdout
