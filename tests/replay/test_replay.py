"""
Decisions made again from the journal alone: 10,000 random ones, all the same; and every planted change is met.

Mistakes that the hash of a line would show are planted in lines that are hashed anew: a
journal that somebody has rewritten, or a product that has journaled something wrong.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import PatientFacts, Position, SubjectFacts, digest_of_facts
from ruqsat.core.instant import HOUR, Now
from ruqsat.core.kept_facts import facts_of, known_in, read_facts_line
from ruqsat.core.line import build_line
from ruqsat.core.personal import erased
from ruqsat.core.policy_set import PolicySet
from ruqsat.service import decision_point, drafts
from ruqsat.service import replay as replay_module
from ruqsat.service.replay import (
    DIFFERENT,
    ERASED,
    FACTS_MISSING,
    NO_RULES,
    NOT_KEPT,
    OTHER_VERSION,
    POLICY_MISSING,
    SAME,
    UNREADABLE,
    Replayed,
    Replayer,
)
from ruqsat.stores.journal_folder import list_segments, read_lines
from ruqsat.stores.journal_verification import verify_folder
from tests.conformance.strange import strange
from tests.mutants import plant
from tests.replay.ground import journal_all

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED, COUNT, FEW = 20261134, 10_000 * LONGER, 400

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, policy_set: PolicySet) -> Path:
    """A journal of 10,000 decisions in strange worlds, over several segments."""
    made = tmp_path_factory.mktemp("replay") / "journal"
    answers = asyncio.run(journal_all(made, policy_set, strange(policy_set, SEED, COUNT)))
    print(f"seed {SEED}:", Counter(answer.decision.basis or answer.decision.reason for answer in answers))
    assert len({answer.decision.basis for answer in answers}) > 10
    assert len({answer.decision.reason for answer in answers}) > 50
    assert any(answer.degraded and answer.decision.allowed for answer in answers)
    return made


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory, policy_set: PolicySet) -> list[bytes]:
    """The lines of a few decisions, to be spoilt."""
    made = tmp_path_factory.mktemp("few") / "journal"
    asyncio.run(journal_all(made, policy_set, strange(policy_set, SEED, FEW)))
    return list(read_lines(made))


def replay(lines: Iterable[bytes], policy_set: PolicySet | None, **more: Any) -> tuple[list[Replayed], dict[str, int]]:
    """Make decisions again, by this set wherever it is the one that was asked for."""

    def find(beginning: str) -> PolicySet | None:
        return policy_set if policy_set is not None and policy_set.digest.startswith(beginning) else None

    replayer = Replayer(find, **more)
    return [found for line in lines if (found := replayer.take(line)) is not None], replayer.counts


def spoilt(lines: Iterable[bytes], change: Change) -> list[bytes]:
    """Return the lines with *change* made in each part and entry, hashed anew."""
    made, prev = [], b"0" * 64
    for number, line in enumerate(lines):
        entry = json.loads(line)
        parts = entry.pop("personal", [])
        for name in ("hash", "prev", "n", "sealed"):
            entry.pop(name, None)
        for each in (entry, *parts):
            change(each)
        told, prev = build_line(prev, number, _json(entry), [_json(part) for part in parts])
        made.append(told)
    return made


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.slow
@pytest.mark.timeout(400 * LONGER)
def test_ten_thousand_journaled_decisions_made_again_give_the_same_answers(folder: Path, policy_set: PolicySet) -> None:
    """Reason, rule, basis, law, documents and duties too; what no rule decided is not counted as agreement."""
    assert verify_folder(folder).intact
    assert len(list_segments(folder)) > 1

    found, counts = replay(read_lines(folder), policy_set)

    print(counts)
    assert len(found) == COUNT
    assert not [each for each in found if each.result == DIFFERENT]
    assert set(counts) == {SAME, NO_RULES}
    assert counts[SAME] > 0.9 * COUNT


def test_each_segment_holds_the_facts_of_its_own_entries(folder: Path, policy_set: PolicySet) -> None:
    """Older segments may have been deleted: the last one alone gives the same answers."""
    last = list_segments(folder)[-1].path.read_bytes().splitlines(keepends=True)

    found, counts = replay(last, policy_set)

    assert found
    assert set(counts) <= {SAME, NO_RULES}


def test_facts_are_kept_once_a_segment(folder: Path) -> None:
    """However many entries rest on them."""
    for segment in list_segments(folder):
        lines = segment.path.read_bytes().splitlines(keepends=True)
        digests = [kept.digest for line in lines if (kept := read_facts_line(line)) is not None]
        assert digests
        assert len(set(digests)) == len(digests)


def test_without_a_change_the_planted_tests_would_meet_nothing(some: list[bytes], policy_set: PolicySet) -> None:
    """Lines that are merely hashed anew are all the same, so what the others meet is the change."""
    assert set(replay(spoilt(some, lambda _: None), policy_set)[1]) == {SAME, NO_RULES}


def _other_action(each: dict[str, Any]) -> None:
    if "asked" in each:
        asked = json.loads(each["asked"])
        asked["action"]["name"] = "export" if asked["action"]["name"] != "export" else "read"
        each["asked"] = json.dumps(asked)


def _other_circumstances(each: dict[str, Any]) -> None:
    if "asked" in each:
        asked = json.loads(each["asked"])
        asked["resource"]["properties"]["labels"] = ["HIV", "PSY"]
        each["asked"] = json.dumps(asked)


def _other_facts(each: dict[str, Any]) -> None:
    if "body" in each:
        body = json.loads(each["body"])
        body |= {"deceased_at": 1} if "roles" not in body else {"active": False}
        each["body"] = json.dumps(body)


def _later(each: dict[str, Any]) -> None:
    if each.get("kind") == "decision":
        each["at"] = "2030" + each["at"][4:]


def _certain(each: dict[str, Any]) -> None:
    each.pop("within", None)


def _incapable(each: dict[str, Any]) -> None:
    each.pop("can", None)


def _the_other_way(each: dict[str, Any]) -> None:
    if "allowed" in each:
        each["allowed"] = not each["allowed"]


def _unsaid(each: dict[str, Any]) -> None:
    each.pop("applied", None)


def _in_good_times(each: dict[str, Any]) -> None:
    each.pop("degraded", None)


PLANTED: dict[str, tuple[Change, str]] = {
    "another action in the question": (_other_action, DIFFERENT),
    "other labels in the question": (_other_circumstances, DIFFERENT),
    "facts changed under their digest": (_other_facts, FACTS_MISSING),
    "another moment": (_later, DIFFERENT),
    "a clock that was certain": (_certain, DIFFERENT),
    "a point that can do nothing": (_incapable, DIFFERENT),
    "the opposite answer": (_the_other_way, DIFFERENT),
    "documents left out": (_unsaid, DIFFERENT),
    "degraded, and not said": (_in_good_times, DIFFERENT),
    "a question that is none": (lambda each: each.update(asked="{}") if "asked" in each else None, UNREADABLE),
    "a rule that is no text": (lambda each: each.update(rule=[1]) if "allowed" in each else None, UNREADABLE),
    "a moment that is none": (lambda each: each.update(at="yesterday") if "allowed" in each else None, UNREADABLE),
    "no question": (lambda each: each.pop("asked", None), NOT_KEPT),
    "another policy set": (lambda each: each.update(policy="f" * 16) if "policy" in each else None, POLICY_MISSING),
    "another version": (lambda each: each.update(product="0.0.1") if "product" in each else None, OTHER_VERSION),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_change_is_told(some: list[bytes], policy_set: PolicySet, what: str) -> None:
    """As a difference, or as what cannot be made again; never as agreement."""
    change, expected = PLANTED[what]

    counts = replay(spoilt(some, change), policy_set)[1]

    print(counts)
    assert counts.get(expected, 0) > 0
    assert sum(counts.values()) == sum(b'"kind":"decision"' in line for line in some)
    if expected not in (DIFFERENT, FACTS_MISSING):
        assert SAME not in counts


def test_facts_changed_with_their_digests_are_a_difference(some: list[bytes], policy_set: PolicySet) -> None:
    """Whoever rewrites facts and every digest of them meets the answers that do not follow from them."""
    changed: dict[str, str] = {}

    def rewrite(each: dict[str, Any]) -> None:
        if "body" in each:
            before = each["digest"]
            _other_facts(each)
            kind = "patient" if "deceased_at" in each["body"] else "subject"
            each["digest"] = changed[before] = digest_of_facts(kind, each["body"].encode())
        if "knew" in each:
            each["knew"] = [changed.get(digest, digest) for digest in each["knew"]]

    counts = replay(spoilt(some, rewrite), policy_set)[1]

    print(counts)
    assert counts[DIFFERENT] > 50


def test_rules_that_decide_otherwise_are_a_difference(
    some: list[bytes], policy_set: PolicySet, variant: Callable[[Mapping[str, Any]], PolicySet]
) -> None:
    """Under the right digest, as an engine with a mistake is; each with both answers."""
    other = variant({"sensitive_requires_explicit": False, "require_care_relationship": False})

    def mistaken(policy_set: PolicySet, *rest: Any) -> Any:
        return evaluate(other, *rest)

    found, _ = replay(some, policy_set, decide=mistaken)

    different = [each for each in found if each.result == DIFFERENT]
    assert different
    assert all(each.told is not None and each.again is not None and each.told != each.again for each in different)


def test_entries_of_another_version_are_tried_when_asked(some: list[bytes], policy_set: PolicySet) -> None:
    """Then they are judged as any other."""
    older = spoilt(some, PLANTED["another version"][0])

    assert set(replay(older, policy_set)[1]) == {OTHER_VERSION, NO_RULES}
    assert set(replay(older, policy_set, any_version=True)[1]) == {SAME, NO_RULES}


def test_an_erased_question_is_no_agreement(some: list[bytes], policy_set: PolicySet) -> None:
    """Nor an erased person's: said as erased; where only the facts are gone they are missing."""

    def blank(lines: list[bytes], sign: str) -> list[bytes]:
        made = []
        for line in lines:
            parts = [_json(part) for part in json.loads(line).get("personal", ()) if sign in part]
            made.append(line)
            for text in parts:
                made[-1] = made[-1].replace(text, erased(text))
        return made

    assert set(replay(blank(some, "asked"), policy_set)[1]) == {ERASED, NO_RULES}
    assert set(replay(blank(some, "body"), policy_set)[1]) == {FACTS_MISSING, NO_RULES}


def test_what_is_not_kept_is_not_made_again(tmp_path: Path, policy_set: PolicySet) -> None:
    """With the setting off no question and no fact is in the journal, and nothing is counted as agreement."""
    asyncio.run(journal_all(tmp_path, policy_set, strange(policy_set, SEED, 50), replayable=False))
    lines = list(read_lines(tmp_path))

    assert set(replay(lines, policy_set)[1]) <= {NOT_KEPT, NO_RULES}
    assert not any(b'"asked"' in line or b'"kind":"facts"' in line for line in lines)


def test_only_decisions_of_the_time_asked_for_are_made_again(some: list[bytes], policy_set: PolicySet) -> None:
    """From the first instant, before the second."""
    found, _ = replay(some, policy_set)
    at = sorted(each.at for each in found)[len(found) // 2]
    moment = replay_module.parse_instant(at)

    earlier, later = (replay(some, policy_set, **each)[0] for each in ({"until": moment}, {"since": moment}))

    assert {each.at < at for each in earlier} == {True}
    assert {each.at < at for each in later} == {False}
    assert len(earlier) + len(later) == len(found)


MISTAKES = {
    "the moment after the evaluation": (
        decision_point, "render_instant(now.hi), now.hi - now.lo)", "render_instant(now.hi), 0)",
    ),
    "without capabilities": (drafts, "_in_order(capabilities_of(request, origin)),", "(),"),
    "facts without those beside": (drafts, "known_in(whole)", "(whole.subject, whole.patient)"),
    "the capabilities of the point, not of the request": (
        drafts, "_in_order(capabilities_of(request, origin)),", "_in_order(origin.capabilities),",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_decision_point_that_journals_something_else_is_found_out(
    tmp_path: Path, policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """Planted: what the journal keeps is not what the rules saw."""
    module, right, wrong = MISTAKES[mistake]
    spoilt = plant(module, right, wrong)
    if module is drafts:
        monkeypatch.setattr(decision_point, "Drafts", spoilt.Drafts)
    else:
        monkeypatch.setattr("tests.replay.ground.DecisionPoint", spoilt.DecisionPoint)
    asyncio.run(journal_all(tmp_path, policy_set, strange(policy_set, SEED, 1500)))

    assert replay(read_lines(tmp_path), policy_set)[1].get(DIFFERENT, 0) > 0


def test_facts_come_back_as_they_were_taken_apart() -> None:
    """Whoever is nobody stays nobody, in every place; a patient in a subject's place is refused."""
    one, other, whose = SubjectFacts("a"), SubjectFacts("b"), PatientFacts("p")
    position = Position("e", 1)
    for known in ((None, None), (one, None), (one, whose), (one, whose, other, None), (one, None, None, other, whose)):
        facts = facts_of(known, position, consents_known=True)
        assert facts_of(known_in(facts), position, consents_known=True) == facts

    with pytest.raises(ValueError, match="belong"):
        facts_of((whose, None), position, consents_known=True)
    with pytest.raises(ValueError, match="belong"):
        facts_of((one, other), position, consents_known=True)


def test_a_subject_and_a_patient_of_one_id_are_not_taken_for_each_other() -> None:
    """Their facts read alike, their digests do not."""
    assert SubjectFacts("x").digest != PatientFacts("x").digest


def test_the_moment_is_the_entry_s(policy_set: PolicySet, tmp_path: Path) -> None:
    """An uncertain present is kept with both its ends."""
    asked = next(each for each in strange(policy_set, SEED, 50) if each.facts.consents_known)
    moments = [Now(asked.now.lo - HOUR, asked.now.lo)]
    seen: list[Now] = []

    def watch(policy_set: PolicySet, request: Any, facts: Any, now: Now, can: frozenset[str]) -> Any:
        seen.append(now)
        return evaluate(policy_set, request, facts, now, can)

    asyncio.run(journal_all(tmp_path, policy_set, [asked._replace(now=moments[0])]))
    replay(read_lines(tmp_path), policy_set, decide=watch)

    assert seen == moments
