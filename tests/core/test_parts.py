"""Requests of several parts: each decided by itself, nothing given that is not permitted at every moment."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, PatientFacts, Position
from ruqsat.core.instant import Now
from ruqsat.core.parts import decide_parts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import Action, EvaluationRequest, Resource, ResourceProperties, Subject
from ruqsat.core.world import World

ABLE = frozenset({"redact", "suppress_total", "require_eds"})
PLAIN = {"id": "o1", "class": "labs", "labels": []}
SENSITIVE = {"id": "o2", "class": "labs", "labels": ["HIV"]}
FOREIGN = {"id": "o3", "class": "labs", "labels": [], "patient": "p-marat"}


def asking(policy_set: PolicySet, world: World) -> Callable[..., Decision]:
    """Return how to ask for parts as dr_aida, whom Dana's consent names from 2026-01-10, 09:00 on."""

    def decide(
        *parts: Any, action: str = "search", able: frozenset[str] = ABLE, now: Now | None = None, **whole: Any
    ) -> Decision:
        resource = {"patient": "p-dana", "class": "labs", "labels": [], "parts": list(parts), **whole}
        request, facts, noon = situation(
            policy_set, world, PolicyCase("", f"dr_aida {action} all TREAT", "", resource=resource)
        )
        return evaluate(policy_set, request, facts, now or noon, able)

    return decide


@pytest.fixture
def asked(policy_set: PolicySet, world: World) -> Callable[..., Decision]:
    """Ask for parts."""
    return asking(policy_set, world)


def test_all_parts_permitted_is_a_whole_permit(asked: Any) -> None:
    """With the reason and the duties of its parts."""
    decision = asked(PLAIN, {**PLAIN, "id": "o9"})

    assert (decision.allowed, decision.reason, decision.duties) == (True, "allow.consent", ("notify_subject",))


def test_a_part_that_is_not_permitted_is_cut_out(asked: Any) -> None:
    """And the count of what there is, so that nobody learns that something was cut."""
    decision = asked(PLAIN, SENSITIVE, FOREIGN)

    assert (decision.allowed, decision.reason) == (True, "allow.partial")
    assert decision.duties == ("notify_subject", "redact:o2", "redact:o3", "suppress_total")


def test_a_caller_that_cannot_cut_gets_nothing(asked: Any) -> None:
    """A caller who cannot cut parts out is denied the whole, and nothing leaks."""
    assert asked(PLAIN, SENSITIVE, able=frozenset({"redact"})).reason == "deny.obligation.unsupported"
    assert asked(PLAIN, SENSITIVE, able=frozenset({"redact", "suppress_total"})).allowed


def test_nothing_permitted_is_a_denial(asked: Any) -> None:
    """With the reason of the first part."""
    assert asked(SENSITIVE, FOREIGN).reason == "deny.sensitivity.not_covered"


@pytest.mark.parametrize("how", [{"action": "update"}, {"atomic": True}])
def test_a_writing_or_an_atomic_request_is_permitted_whole_or_not_at_all(asked: Any, how: dict[str, Any]) -> None:
    """In a writing or an atomic request one denied part denies all of it."""
    assert asked(PLAIN, {**PLAIN, "id": "o9"}, **how).allowed
    assert not asked(PLAIN, SENSITIVE, **how).allowed


@pytest.mark.parametrize(
    "parts",
    [[], [{"class": "labs"}], [{"id": ""}], [{"id": 7}], [{"id": "o1", "labels": "HIV"}], [{"id": "o1", "parts": []}],
     [{**PLAIN, "parts": [PLAIN]}],
     [PLAIN] * 1001, [{"id": "o1", "class": 5}]],
)  # fmt: skip
def test_parts_that_cannot_be_read_open_nothing(asked: Any, parts: list[Any]) -> None:
    """No part, a part without a name, too many, parts of parts: denied as a whole."""
    assert asked(*parts).reason == "deny.unmapped.parts"


def test_a_thousand_parts_can_be_asked_for(asked: Any) -> None:
    """A request may have as many as a thousand parts."""
    assert asked(*[PLAIN] * 1000).allowed


def ask_each(*parts: dict[str, Any], **answers: Decision) -> tuple[Decision, dict[str, str | None]]:
    """Decide parts by answers of their own; return the whole, and whose facts each part was decided with."""
    seen: dict[str, str | None] = {}

    def decide(one: EvaluationRequest, facts: Facts) -> Decision:
        seen[one.resource.id] = facts.patient and facts.patient.id
        return answers.get(one.resource.id, Decision(True, "allow.consent", "consent"))

    whole = ResourceProperties("p1", "labs", (), parts=parts)
    request = EvaluationRequest(Subject("user", "s1"), Action("read"), Resource("Bundle", "all", whole))
    patients = tuple(map(PatientFacts, ("p0", "p2", "p3")))
    facts = Facts(None, PatientFacts("p1"), Position("test", 0), others=patients)
    return decide_parts(request, facts, ABLE, decide), seen


def test_a_permit_has_one_basis() -> None:
    """Parts on different bases are asked for apart."""
    mixed, _ = ask_each(PLAIN, {**PLAIN, "id": "o2"}, o2=Decision(True, "allow.statutory", "kz273_4_3"))

    assert mixed.reason == "deny.unmapped.parts"
    assert ask_each(PLAIN, {**PLAIN, "id": "o2"})[0].allowed


def test_what_concerns_nobody_passes_beside_what_is_permitted(asked: Any) -> None:
    """A doctor of the directory among the patient's records; alone among refusals it is no answer, nor is a patient's called so."""
    doctor = {"id": "dr", "class": "directory"}
    both = asked(PLAIN, doctor)

    assert (both.allowed, both.reason, both.basis) == (True, "allow.consent", "consent")
    assert asked(doctor, PLAIN) == both
    cut = asked(doctor, PLAIN, SENSITIVE)
    assert (cut.reason, cut.basis, set(cut.duties)) == (
        "allow.partial", "consent", {"notify_subject", "redact:o2", "suppress_total"}
    )  # fmt: skip
    assert asked(doctor, SENSITIVE).reason == "deny.sensitivity.not_covered"
    assert asked(doctor, SENSITIVE, atomic=True).reason == "deny.sensitivity.not_covered"
    assert asked(doctor).reason == "allow.directory"
    assert "redact:dr" in asked(PLAIN, {**doctor, "patient": "p-dana"}).duties
    assert asked(PLAIN, {"id": "dr", "class": ["directory"]}).reason == "deny.unmapped.parts"


def test_a_part_is_decided_with_the_facts_of_its_own_patient() -> None:
    """Those of the whole's if it names no other, and none if nobody brought them."""
    _, seen = ask_each(
        PLAIN,
        {**PLAIN, "id": "o2", "patient": "p2"},
        {**PLAIN, "id": "o3", "patient": "p9"},
        {"id": "o4", "patient": None},
    )

    assert seen == {"o1": "p1", "o2": "p2", "o3": None, "o4": None}


def test_labels_that_a_part_does_not_state_are_unknown(asked: Any) -> None:
    """Unless the whole was checked and has none."""
    assert asked({"id": "other"}).allowed
    assert not asked({"id": "other"}, labels=["INFDIS"]).allowed


def test_a_part_is_cut_out_if_it_is_not_permitted_at_some_moment_of_an_uncertain_present(
    asked: Any, policy_set: PolicySet
) -> None:
    """The consent begins inside the interval: before that nothing is permitted."""
    began = 1_768_017_600_000_000

    assert asked(PLAIN, now=Now(began, began + 1)).allowed
    assert not asked(PLAIN, now=Now(began - 1, began + 1)).allowed
    assert msgspec.structs.asdict(asked(PLAIN, now=Now(began, began)))["reason"] == "allow.consent"
