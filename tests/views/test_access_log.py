"""What of an entry a patient sees, and who stands for one: can and cannot, on values."""

from datetime import date
from typing import Any

import msgspec
import pytest

from ruqsat.core.access_log import Access, Viewer, access_shown
from ruqsat.core.facts import PatientFacts, RecordStatus, StatutoryRequest
from ruqsat.core.instant import HOUR, parse_instant
from ruqsat.core.vocabulary import AdolescentShield, Switches
from tests.views.ground import AT, DOCTOR, NOW, entry

ADULT = PatientFacts("p-anna", birth_date=date(1980, 3, 2), egov=True)
TEEN = PatientFacts("p-anna", birth_date=date(2010, 3, 2))
CHILD = PatientFacts("p-anna", birth_date=date(2015, 3, 2))
IIN = "880808100203"


def seen(
    viewer: Viewer = "self",
    patient: PatientFacts | None = ADULT,
    now: int = NOW,
    switches: Switches | None = None,
    **said: Any,
) -> Access | None:
    """Return the row of a physician's reading, changed by what is *said*."""
    return access_shown(entry(**said), viewer, patient, switches or Switches(), now)


def held(labels: tuple[str, ...] | None) -> PatientFacts:
    """Return an adult of whose record so much is on file."""
    return msgspec.structs.replace(ADULT, records=(RecordStatus("o1", "labs", labels),))


def with_request(**said: Any) -> PatientFacts:
    """Return an adult of whom an authority has asked for data."""
    request = StatutoryRequest(**({"id": "rq-1", "authority": "court", "categories": ("labs",), "end": NOW * 2} | said))
    return msgspec.structs.replace(ADULT, requests=(request,))


def test_a_row_says_who_when_what_and_on_which_ground() -> None:
    """And neither which record it was nor whose."""
    row = seen()

    assert row == Access(
        "d-1", parse_instant(AT), False, False, "dr-aliya", ("physician",), "h1", "labs", "read", ("TREAT",), True,
        "allow.consent", "consent", ("R3",),
    )  # fmt: skip
    assert "o1" not in repr(row) and "p-anna" not in repr(row)


@pytest.mark.parametrize("name", ["subject", "org"])
@pytest.mark.parametrize("value", [IIN, f"iin:{IIN}", f"h1/{IIN}@kz", "0" * 13])
def test_no_identification_number_of_staff_is_shown(name: str, value: str) -> None:
    """Reading A-35: role and organisation, and an id that names nobody elsewhere; a canary in each place."""
    row = seen(**{name: value})

    assert row is not None and row.roles == ("physician",)
    assert value not in msgspec.json.encode(row).decode()


@pytest.mark.parametrize(
    ("basis", "is_marked"), [("emergency_default", True), ("emergency_override", True), ("consent", False)]
)
def test_emergencies_and_last_known_facts_are_marked(basis: str, is_marked: bool) -> None:
    """So that they stand out, and nothing else does."""
    row = seen(basis=basis, degraded=is_marked)

    assert row is not None and (row.emergency, row.degraded) == (is_marked, is_marked)


def test_a_denial_is_a_row_with_its_reason() -> None:
    """Who tried and could not is told, too."""
    row = seen(allowed=False, reason="deny.consent.none", basis=None, duties=[])

    assert row is not None and (row.allowed, row.reason, row.person) == (False, "deny.consent.none", "dr-aliya")


# ---- the therapeutic hold (Code 134(4), reading A-34) --------------------------------------------------------


@pytest.mark.parametrize(
    ("patient", "flag", "is_withheld"),
    [
        (held(("TBOO", "PSY")), False, True),   # labelled since
        (held(("PSY",)), True, False),          # the hold has ended
        (held(None), True, True),               # nobody knows of labels: as it was then
        (held(None), False, False),
        (ADULT, True, True),
        (ADULT, False, False),
        (None, True, True),
    ],
)  # fmt: skip
def test_what_is_withheld_is_a_row_that_says_only_this(
    patient: PatientFacts | None, flag: bool, is_withheld: bool
) -> None:
    """That something was withheld, when, and by which law: no class, no role, no organisation may tell what it is."""
    row = seen(patient=patient, held=flag)

    withheld = Access("d-1", parse_instant(AT), withheld=True, law=("R28", "H134.4"))
    assert (row == withheld) == is_withheld
    assert row is not None and row.withheld == is_withheld


@pytest.mark.parametrize(
    ("parts", "on_file", "is_withheld"),
    [
        (("o2",), {"o1": (), "o2": ("TBOO",)}, True),            # the bundle itself never was
        (("o2",), {"o1": (), "o2": ()}, False),                  # the part's hold has ended
        (("o2",), {"o1": ("TBOO",), "o2": ()}, True),            # the bundle itself is by now
        (("o2", "o3"), {"o1": (), "o2": (), "o3": ("TBOO",)}, True),
        (("o2",), {"o1": ()}, True),                             # nothing is on file: as it was then
        (("o2",), {"o1": (), "o2": None}, True),
        (("",), {"o1": (), "": ()}, True),
        (("o1", "o2"), {"o1": (), "o2": ()}, False),
    ],
)  # fmt: skip
def test_what_is_withheld_in_a_part_is_withheld_until_the_part_is_not(
    parts: tuple[str, ...], on_file: dict[str, tuple[str, ...] | None], is_withheld: bool
) -> None:
    """No label of the bundle that it came in lifts the hold of a part."""
    records = tuple(RecordStatus(id_, "labs", labels) for id_, labels in on_file.items() if id_)
    row = seen(patient=msgspec.structs.replace(ADULT, records=records), held=True, held_parts=parts)

    assert row is not None and row.withheld == is_withheld


def test_the_own_attempt_to_read_what_is_withheld_says_no_more() -> None:
    """The reason would tell which class it is that is withheld."""
    said = {"allowed": False, "reason": "deny.self.therapeutic_hold", "subject": "anna", "held": True, "basis": None}

    assert seen(patient=held(("TBOO",)), **said) == Access(
        "d-1", parse_instant(AT), withheld=True, law=("R28", "H134.4")
    )


def test_a_representative_is_told_what_the_patient_is_not_yet() -> None:
    """Code 134(4): the hold is against the patient alone."""
    row = seen("legal_rep", held(("TBOO",)), held=True)

    assert row is not None and not row.withheld and row.data_class == "labs"


# ---- secrets of authorities (reading A-16) -------------------------------------------------------------------


@pytest.mark.parametrize("viewer", ["self", "legal_rep"])
def test_counter_intelligence_is_no_row(viewer: Viewer) -> None:
    """Not now and never, and not as an attempt either; the journal keeps it."""
    patient = with_request(authority="special_state_body")
    said = {"basis": "kz273_4_9", "purpose": "HLEGAL", "applied": ["rq-1"], "duties": []}

    for later in (NOW, NOW * 2):
        assert seen(viewer, patient, later, **said) is None
        assert (
            seen(viewer, patient, later, **said | {"allowed": False, "basis": None, "reason": "deny.statutory.scope"})
            is None
        )


@pytest.mark.parametrize("told", ["duties", "untold"])
def test_what_is_told_later_is_a_row_later(told: str) -> None:
    """A request of a court whose notice waits is in the log once the wait is over, to the microsecond."""
    until = NOW + 5 * HOUR
    patient = with_request(deferred_until=until)
    said = {
        "basis": "kz273_4_3",
        "purpose": "HLEGAL",
        "applied": ["rq-1"],
        "duties": [],
        told: ["notify_subject_deferred"],
    }

    assert seen(patient=patient, now=until - 1, **said) is None
    assert seen(patient=patient, now=until, **said) is not None


def test_a_request_of_a_court_whose_patient_is_told_at_once_is_a_row_at_once() -> None:
    """Without a ground to tell of it later, an access for a court is a row at once."""
    assert seen(basis="kz273_4_3", purpose="HLEGAL", applied=["rq-1"], duties=["notify_subject"]) is not None


@pytest.mark.parametrize("purpose", ["HLEGAL", "THREAT"])
def test_an_attempt_for_an_authority_gives_nothing_away(purpose: str) -> None:
    """Denied, for whatever reason: not a row, unless it was of a request on record that is not secret any more."""
    said = {"allowed": False, "basis": None, "reason": "deny.statutory.no_request", "purpose": purpose, "duties": []}

    assert seen(**said, applied=[]) is None
    assert seen(patient=with_request(), **said, applied=["rq-1"]) is None
    assert seen(patient=with_request(), now=parse_instant(AT) + 720 * HOUR, **said, applied=["rq-1"]) is not None
    assert seen(patient=with_request(deferred_until=NOW + 1), now=NOW, **said, applied=["rq-1"]) is None


def test_the_register_of_requests_is_no_record_of_the_patient() -> None:
    """That one was written down would tell that there is one."""
    assert (
        seen(data_class="request", action="create", basis="operator_duty", purpose="HLEGAL", duties=["provenance"])
        is None
    )


# ---- what an adolescent keeps from a representative (Code 78(2)) ---------------------------------------------


@pytest.mark.parametrize(
    ("patient", "is_seen"),
    [(TEEN, False), (CHILD, True), (ADULT, True), (None, False), (PatientFacts("p-anna"), False)],
)  # fmt: skip
def test_a_representative_does_not_see_what_an_adolescent_consented_to_alone(
    patient: PatientFacts | None, is_seen: bool
) -> None:
    """Neither a reading nor an attempt; where no age is known, neither."""
    denied = {"allowed": False, "reason": "deny.consent.none", "basis": None}
    for said in ({"shielded": True}, {"shielded": True} | denied):
        assert (seen("legal_rep", patient, **said) is not None) == is_seen
        assert seen("self", patient, **said) is not None
        assert seen("legal_rep", patient, **said | {"shielded": False}) is not None


def test_a_shield_from_an_earlier_age_holds_from_that_age() -> None:
    """As the operator's counsel decided for records, so for their journal."""
    switches = Switches(adolescent_shield=AdolescentShield(enabled=True, from_age=11))

    assert seen("legal_rep", CHILD, switches=switches, shielded=True) is None


# ---- what is no decision, and what was erased ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["not_sent", "refusal", "search", "policy", "segment"])
def test_only_decisions_are_rows(kind: str) -> None:
    """Lines of the process itself tell a patient nothing."""
    assert seen(kind=kind) is None


def test_an_erased_entry_is_shown_as_erased() -> None:
    """The line stands, with what is left of it; nobody is made up."""
    stays = dict.fromkeys(("subject", "patient", "resource", "applied"))
    row = seen(**stays, sealed=["00"], personal=[{"erased": "----"}])

    assert row is not None and row.erased and row.person is None
    assert (row.organisation, row.data_class, row.allowed) == ("h1", "labs", True)


def test_personal_parts_are_read_as_any_other_member() -> None:
    """Who asked stands beside the chain, and is told as if it stood in it."""
    named = {"salt": "00", "subject": "dr-aliya", "patient": "p-anna", "resource": "o1", "applied": ["c-1"]}
    row = seen(subject=None, patient=None, resource=None, applied=None, sealed=["00"], personal=[named])

    assert row == seen()
    assert DOCTOR["subject"] == "dr-aliya"
