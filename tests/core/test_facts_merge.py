"""What a file cannot do to facts on record: give back what was taken."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Facts,
    PatientFacts,
    Provision,
    RecordStatus,
    Relationship,
    Representation,
    StatutoryRequest,
    SubjectFacts,
)
from ruqsat.core.facts_merge import merge_patient, merge_subject
from ruqsat.core.instant import Now
from ruqsat.core.request import EvaluationRequest
from tests.core.strategies import worlds

PERMIT = Consent("c1", "t1", "active", 10, Provision("permit"))
WITHDRAWN = msgspec.structs.replace(PERMIT, status="revoked", revoked_at=20)
REFUSAL = Consent("c1", "t1", "active", 10, Provision("deny"))
LINK = Delegation("d1", "c1", "aunt", 99, (), ())
POWER = Representation("w1", "saule", "parent", True)
SESSION = EmergencyGrant("g1", "dr", 1, 9, "why", 40)
RECORD = RecordStatus("r1", "labs")
REQUEST = StatutoryRequest("q1", "court", ("labs",), 99, verified=True)


def revoked(item: Any, at: int = 20) -> Any:
    """Return a document, revoked."""
    return msgspec.structs.replace(item, revoked_at=at)


def of(**fields: Any) -> PatientFacts:
    """Return a patient."""
    return PatientFacts("p1", **fields)


TAKEN: list[tuple[str, str, Any, Any]] = [
    ("a withdrawn consent", "consents", WITHDRAWN, PERMIT),
    ("a withdrawal at a later time", "consents", WITHDRAWN, revoked(WITHDRAWN, 30)),
    ("a superseded consent", "consents", msgspec.structs.replace(PERMIT, status="superseded"), PERMIT),
    ("a refusal", "consents", REFUSAL, PERMIT),
    ("a refusal that nobody understood", "consents", msgspec.structs.replace(REFUSAL, status="quarantined"), REFUSAL),
    ("a delegation", "delegations", revoked(LINK), LINK),
    ("a power", "representations", revoked(POWER), POWER),
    ("a session", "grants", revoked(SESSION), SESSION),
    ("a closed request", "requests", revoked(REQUEST), REQUEST),
    ("a block", "records", RecordStatus("r1", "labs", blocked=True), RECORD),
    ("a destruction", "records", RecordStatus("r1", "labs", destroyed=True), RECORD),
]  # fmt: skip


@pytest.mark.parametrize(("field", "stands", "stated"), [each[1:] for each in TAKEN], ids=[each[0] for each in TAKEN])
def test_what_was_taken_stays_taken(field: str, stands: Any, stated: Any) -> None:
    """The statement is set aside and counted; and the other way round the file is believed."""
    merged = merge_patient(of(**{field: (stands,)}), of(**{field: (stated,)}), ())
    assert (getattr(merged.facts, field), merged.set_aside) == ((stands,), 1)

    other = merge_patient(of(**{field: (stated,)}), of(**{field: (stands,)}), ())
    assert (getattr(other.facts, field), other.set_aside) == ((stands,), 0)


def test_a_death_is_not_undone() -> None:
    """Silence about it, or a later date, is set aside."""
    for stated in (of(), of(deceased_at=9)):
        merged = merge_patient(of(deceased_at=5), stated, ())
        assert (merged.facts.deceased_at, merged.set_aside) == (5, 1)


def test_what_the_registry_holds_stands_as_it_is_there() -> None:
    """Whatever a file says of it, stricter or not; what it says of other documents counts."""
    other = msgspec.structs.replace(PERMIT, id="c2")
    merged = merge_patient(of(consents=(PERMIT, other)), of(consents=(WITHDRAWN, revoked(other))), {"c1"})

    assert merged.facts.consents == (PERMIT, revoked(other))
    assert merged.set_aside == 1


def test_documents_that_the_file_does_not_name_are_kept_and_ties_of_care_end() -> None:
    """A missing refusal would open what it closes; a missing tie only closes."""
    before = of(
        consents=(REFUSAL,), delegations=(LINK,), grants=(SESSION,), records=(RECORD,), representations=(POWER,),
        requests=(REQUEST,), relationships=(Relationship("encounter", org="h1"),),
    )  # fmt: skip

    merged = merge_patient(before, of(egov=True), ())

    assert merged.facts == msgspec.structs.replace(before, egov=True, representations=(), relationships=())
    assert merged.set_aside == 0
    assert merge_patient(before, of(egov=True), {"w1"}).facts.representations == (POWER,)


@given(worlds, worlds)
def test_merging_again_changes_nothing(
    one: tuple[EvaluationRequest, Facts, Now], other: tuple[EvaluationRequest, Facts, Now]
) -> None:
    """An import that is repeated is the same as one."""
    if one[1].patient is None or other[1].patient is None:
        return
    stated = msgspec.structs.replace(other[1].patient, id=one[1].patient.id)
    once = merge_patient(one[1].patient, stated, ()).facts

    assert merge_patient(once, stated, ()).facts == once


def test_what_is_used_up_of_break_glass_stays_so() -> None:
    """Sessions, the count of the day and a suspension; the rest is as the directory's file says."""
    before = SubjectFacts("dr", roles=("physician",), org="h1", btg_suspended=True, btg_today=3, sessions=("g1",))

    merged = merge_subject(before, SubjectFacts("dr", roles=("nurse",), org="h2", sessions=("g2",)))

    assert merged == SubjectFacts(
        "dr", roles=("nurse",), org="h2", btg_suspended=True, btg_today=3, sessions=("g2", "g1")
    )
