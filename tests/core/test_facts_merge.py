"""What a file cannot do to facts on record: give back what was taken."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Episode,
    Facts,
    PatientFacts,
    Provision,
    RecordStatus,
    Relationship,
    Representation,
    StatutoryRequest,
    SubjectFacts,
)
from ruqsat.core.facts_merge import Merged, MergedSubject, merge_patient, merge_subject
from ruqsat.core.instant import Now
from ruqsat.core.request import EvaluationRequest
from tests.core.strategies import worlds

PERMIT = Consent("c1", "t1", "active", 10, Provision("permit"))
WITHDRAWN = msgspec.structs.replace(PERMIT, status="revoked", revoked_at=20)
REFUSAL = Consent("c1", "t1", "active", 10, Provision("deny"))
LINK = Delegation("d1", "c1", "aunt", 99, (), {})
POWER = Representation("w1", "saule", "parent", True)
SESSION = EmergencyGrant("g1", "dr", 1, 9, "why", 40)
RECORD = RecordStatus("r1", "labs")
CARE = Episode("e1", "h1", "planned", 1)
TIE = Relationship("encounter", org="h1", id="t1")
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
    ("an end of an episode", "episodes", msgspec.structs.replace(CARE, end=9), CARE),
    ("an earlier end of an episode", "episodes", msgspec.structs.replace(CARE, end=9), msgspec.structs.replace(CARE, end=10)),
    ("an end of a tie of care", "relationships", msgspec.structs.replace(TIE, end=9), TIE),
    ("a hold", "records", RecordStatus("r1", "labs", ("HIV", "TBOO")), RecordStatus("r1", "labs", ("HIV",))),
    ("a destruction", "records", RecordStatus("r1", "labs", destroyed=True), RECORD),
]  # fmt: skip


@pytest.mark.parametrize(("field", "stands", "stated"), [each[1:] for each in TAKEN], ids=[each[0] for each in TAKEN])
def test_what_was_taken_stays_taken(field: str, stands: Any, stated: Any) -> None:
    """The statement is set aside and counted; and the other way round the file is believed."""
    merged = merge_patient(of(**{field: (stands,)}), of(**{field: (stated,)}), {})
    assert (getattr(merged.facts, field), merged.set_aside) == ((stands,), 1)

    other = merge_patient(of(**{field: (stated,)}), of(**{field: (stands,)}), {})
    assert (getattr(other.facts, field), other.set_aside) == ((stands,), 0)


def test_a_death_is_not_undone() -> None:
    """Silence about it, or a later date, is set aside."""
    for stated in (of(), of(deceased_at=9)):
        merged = merge_patient(of(deceased_at=5), stated, {})
        assert (merged.facts.deceased_at, merged.set_aside) == (5, 1)


def test_what_the_registry_holds_stands_as_it_is_there() -> None:
    """Whatever a file says of it, stricter or not; what it says of other documents counts."""
    other = msgspec.structs.replace(PERMIT, id="c2")
    merged = merge_patient(of(consents=(PERMIT, other)), of(consents=(WITHDRAWN, revoked(other))), {"consents": {"c1"}})

    assert merged.facts.consents == (PERMIT, revoked(other))
    assert merged.set_aside == 1


DOCUMENTS: dict[str, Any] = {
    "consents": PERMIT, "delegations": LINK, "representations": POWER, "grants": SESSION, "requests": REQUEST,
}  # fmt: skip


@pytest.mark.parametrize("field", DOCUMENTS)
def test_a_registered_document_that_is_not_in_force_is_not_put_in_force(field: str) -> None:
    """A draft, rejected or invalid record stands in a registry and not in the facts; an id of another kind is another."""
    stated = of(**{field: (DOCUMENTS[field],)})
    everywhere_else = {other: {DOCUMENTS[field].id} for other in DOCUMENTS if other != field}

    merged = merge_patient(of(), stated, {field: {DOCUMENTS[field].id}})

    assert (merged.facts, merged.set_aside) == (of(), 1)
    assert merge_patient(of(), stated, everywhere_else).facts == stated


def test_an_end_of_care_is_matched_by_organisation_and_id() -> None:
    """Another organisation's episode of the same id, and a tie that nobody reported, are as the file says."""
    closed = of(episodes=(msgspec.structs.replace(CARE, end=9),), relationships=(Relationship("encounter", end=9),))
    stated = of(episodes=(msgspec.structs.replace(CARE, org="h2"),), relationships=(Relationship("encounter"),))

    assert merge_patient(closed, stated, {}) == Merged(stated, 0)


def test_a_record_keeps_what_the_file_is_silent_about() -> None:
    """Whose it is, its level, a hold; the class and the labels are as stated, unknown ones too; silence is not counted."""
    before = RecordStatus("r1", "labs", ("HIV", "TBOO"), "R", blocked=True, org="h1")

    stated = merge_patient(
        of(records=(before,)), of(records=(RecordStatus("r1", "imaging", ("PSY",), "N", org="h2"),)), {}
    )
    silent = merge_patient(
        of(records=(before, RecordStatus("r2", "labs", ()))),
        of(records=(RecordStatus("r1", "labs", blocked=True), RecordStatus("r2", "labs"))), {},
    )  # fmt: skip

    assert stated == Merged(
        of(records=(RecordStatus("r1", "imaging", ("PSY", "TBOO"), "N", blocked=True, org="h1"),)), 1
    )
    assert silent == Merged(of(records=(before, RecordStatus("r2", "labs"))), 0)


def test_documents_that_the_file_does_not_name_are_kept_and_ties_of_care_end() -> None:
    """A missing refusal would open what it closes; a missing tie only closes."""
    before = of(
        consents=(REFUSAL,), delegations=(LINK,), grants=(SESSION,), records=(RECORD,), representations=(POWER,),
        requests=(REQUEST,), relationships=(Relationship("encounter", org="h1"),),
    )  # fmt: skip

    merged = merge_patient(before, of(egov=True), {})

    assert merged.facts == msgspec.structs.replace(before, egov=True, representations=(), relationships=())
    assert merged.set_aside == 0
    assert merge_patient(before, of(egov=True), {"representations": {"w1"}}).facts.representations == (POWER,)


@given(worlds, worlds)
def test_merging_again_changes_nothing(
    one: tuple[EvaluationRequest, Facts, Now], other: tuple[EvaluationRequest, Facts, Now]
) -> None:
    """An import that is repeated is the same as one."""
    if one[1].patient is None or other[1].patient is None:
        return
    stated = msgspec.structs.replace(other[1].patient, id=one[1].patient.id)
    once = merge_patient(one[1].patient, stated, {}).facts

    assert merge_patient(once, stated, {}).facts == once


def test_what_is_used_up_of_break_glass_stays_so() -> None:
    """Sessions, the count of the day and a suspension; the rest is as the directory's file says."""
    before = SubjectFacts("dr", roles=("physician",), org="h1", btg_suspended=True, btg_today=3, sessions=("g1",))

    merged = merge_subject(before, SubjectFacts("dr", roles=("nurse",), org="h2", sessions=("g2",))).facts

    assert merged == SubjectFacts(
        "dr", roles=("nurse",), org="h2", btg_suspended=True, btg_today=3, sessions=("g2", "g1")
    )


def test_who_was_deactivated_stays_so() -> None:
    """A file that still names the person is set aside in this; the other way round it is believed."""
    gone, there = SubjectFacts("dr", active=False, roles=()), SubjectFacts("dr", roles=("nurse",))

    merged = merge_subject(gone, there)

    assert (merged.facts, merged.set_aside) == (SubjectFacts("dr", active=False, roles=("nurse",)), 1)
    assert merge_subject(there, gone) == MergedSubject(gone, 0)
