"""Words that a pack declares: stated and stored join to the narrower side, and what is of a thing is of no other."""

from typing import Any

import msgspec
import pytest

from ruqsat.core.case import Case
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Organisation, Position, SubjectFacts, entry_id
from ruqsat.core.instant import at
from ruqsat.core.policy_set import Candidates, PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.stated import request_type
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.vocabulary import AttributeWord, Vocabulary

STATED = AttributeWord("a word of the pack", optional=True, stated=True)
SOFT = msgspec.structs.replace(STATED, kind="yes-no")
WHO = SubjectFacts("s", roles=("physician",), org="h1")


def declaring(policy_set: PolicySet, **types: str) -> Vocabulary:
    """The pack's vocabulary with words for each entity, and *types* of things that concern nobody."""
    known = policy_set.vocabulary.attributes
    more: dict[Any, Any] = {
        "sub": known["sub"] | {"role": STATED}, "act": known["act"] | {"soft": SOFT}, "res": known["res"] | {"status": STATED},
    }  # fmt: skip
    return msgspec.structs.replace(policy_set.vocabulary, attributes=known | more, types=types)


def case(
    vocabulary: Vocabulary,
    *,
    who: SubjectFacts = WHO,
    thing: SubjectFacts | None = None,
    action: Any = None,
    **said: Any,
) -> Case:
    """A case in which only this is stated of a record and known of its subject and of a thing."""
    request = msgspec.convert(
        {
            "subject": {"type": "user", "id": "s", "properties": {"role": said.pop("role", None)}},
            "action": {"name": "read"} | ({} if action is None else {"properties": action}),
            "resource": {"type": "Record", "id": "r", "properties": said},
            "context": {"purpose": "TREAT"},
        },
        request_type(vocabulary),
    )
    return Case.of(request, Facts(who, None, Position("e", 1), resource=thing), at(0))


def thing(name: str = "r", **kept: Any) -> SubjectFacts:
    """The directory's entry of a thing."""
    return SubjectFacts(entry_id("Record", name), active=True, properties=kept or None, resource_type="Record")


@pytest.mark.parametrize("row", [
    (None, None, None), ("a", None, "a"), (None, "a", "a"), ("a", "a", "a"), ("a", "b", None), ("1", 1, None),
])  # fmt: skip
def test_stated_and_stored_words_join(policy_set: PolicySet, row: Any) -> None:
    """One of them counts; two that differ are no value at all; of subject and thing alike."""
    said, kept, read = row
    stored = {} if kept is None else {"role": kept, "status": kept}
    who = msgspec.structs.replace(WHO, properties=stored or None)
    joined = case(declaring(policy_set), who=who, thing=thing(**stored), role=said, status=said)

    assert (joined.sub.role, joined.res.status) == (read, read)  # type: ignore[attr-defined]


def test_a_word_of_an_action_is_what_was_stated(policy_set: PolicySet) -> None:
    """A declared word of the action is read as it was stated: true, false, or not there."""
    vocabulary = declaring(policy_set)
    told = [case(vocabulary, action=each).act.soft for each in (None, {}, {"soft": True}, {"soft": False})]  # type: ignore[attr-defined]

    assert told == [None, None, True, False]


def test_a_decision_reads_the_words_of_its_pack(policy_set: PolicySet) -> None:
    """Those that are stated, and None for those that are not, also where a request states nothing at all."""
    vocabulary, read = declaring(policy_set), []
    declares = msgspec.structs.replace(
        policy_set, vocabulary=vocabulary, request_type=request_type(vocabulary), candidates={}
    )

    def first_hit(sub: Any, act: Any, res: Any, ctx: Any) -> int:
        read.append((sub.role, act.soft, res.status))
        return 0

    told = msgspec.convert({
        "subject": {"type": "user", "id": "s", "properties": {"role": "a"}},
        "action": {"name": "read", "properties": {"soft": True}},
        "resource": {"type": "Record", "id": "r", "properties": {"patient": "p1", "class": "labs", "status": "x"}},
        "context": {"purpose": "TREAT"},
    }, declares.request_type)  # fmt: skip
    silent = msgspec.convert(msgspec.to_builtins(told), EvaluationRequest)
    for request in (told, silent):
        facts = Facts(WHO, None, Position("e", 1))
        declares.candidates_for(Case.of(request, facts, at(0)))
        declares.candidates.update(dict.fromkeys(declares.candidates, Candidates((), first_hit, declares.test_of)))
        evaluate(declares, request, facts, at(0))

    assert read == [("a", True, "x"), (None, None, None)]


def test_the_entry_of_a_thing_is_of_that_thing_alone(policy_set: PolicySet) -> None:
    """A neighbour's says nothing, nor does one of another type; without any, what was stated stands."""
    vocabulary = declaring(policy_set)
    foreign = msgspec.structs.replace(thing(status="x"), id=entry_id("Invoice", "r"))

    for entry, read in ((None, None), (thing("q", status="x"), None), (foreign, None), (thing(status="x"), "x")):
        assert case(vocabulary, thing=entry).res.status == read  # type: ignore[attr-defined]
    assert case(vocabulary, thing=thing("q", status="x"), status="y").res.status == "y"  # type: ignore[attr-defined]


def test_a_thing_is_nobody_and_asks_nothing(policy_set: PolicySet) -> None:
    """Whatever its entry says of being active; people and machines are somebody, organisations are not."""
    assert case(declaring(policy_set)).sub.active
    assert not case(declaring(policy_set), who=thing()).sub.active
    hospital = Organisation("provider_medical")
    assert WHO.is_somebody and SubjectFacts("s").is_somebody
    assert SubjectFacts("s", org="h1", organisation=hospital).is_somebody
    assert not SubjectFacts("h1", organisation=hospital).is_somebody
    assert not thing().is_somebody


@pytest.mark.parametrize("row", [
    ({}, "directory", None), ({"class": "labs"}, "labs", "deny.patient.unresolved"),
    ({"patient": "p1"}, None, "deny.unmapped.category"), ({"class": "directory", "patient": "p1"}, "directory", "deny.unmapped.category"),
])  # fmt: skip
def test_a_type_gives_a_class_only_where_nothing_is_stated(policy_set: PolicySet, row: Any) -> None:
    """A stated class stands, and what names a patient is not of nobody because of its type."""
    said, found, reason = row
    vocabulary = declaring(policy_set, Record="directory")
    asked = case(vocabulary, **said)
    refusal = refuse_invalid(asked, vocabulary)

    assert (asked.res.data_class, refusal and refusal.reason) == (found, reason)
