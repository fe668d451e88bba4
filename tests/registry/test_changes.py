"""What becomes of a record: which event leads where, and what decisions see of each status."""

import asyncio
import json
from typing import Any, get_args

import msgspec
import pytest

from ruqsat.core.consent_record import (
    MOST_SAID,
    MOST_TOGETHER,
    TRANSITIONS,
    VERIFY,
    ConsentRow,
    Status,
    allowed_events,
    has_room,
    project,
    with_rows,
)
from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import render_instant
from ruqsat.core.vocabulary import Switches, parse_vocabulary
from ruqsat.service.consent_changes import (
    Call,
    Caller,
    Circumstances,
    RegistryError,
    current_row,
    in_place_of,
    moved,
    new_row,
    refuse_without_room,
)
from ruqsat.service.consent_changes import verified as verified_row
from ruqsat.service.consent_registry import ConsentRegistry
from ruqsat.service.record_seal import NotConfiguredError, RecordSeal
from ruqsat.web.consent_models import ConsentIn, Verification, read_model
from tests.conftest import ROOT
from tests.registry.corpus import BY_REPRESENTATIVE, changed
from tests.registry.documents import BIN, CHECKED, consent, verified
from tests.registry.test_items import CATALOGUE, NOW

DESK, PATIENT = Caller("reg_saltanat", desk=True, basis="operator_duty"), Caller("dana", basis="self")
ABOUT = Circumstances(DESK, NOW, CATALOGUE, Switches(), RecordSeal(bytes(32)))
ENTRY = {"at": "2026-04-02T04:00:00Z", "eds_serial": "CANARY-serial", "bin": BIN, "scan_hash": "ab" * 32}
WRITTEN = {"form": "written", "signature": {"kind": "handwritten", "at": "2026-04-01T04:00:00Z"}}


def row_of(document: dict[str, Any], id_: str = "c1") -> ConsentRow:
    """Return the first version of a record."""
    return new_row(id_, read_model(ConsentIn, json.dumps(document).encode()), False, ABOUT)


def checked(**parts: Any) -> dict[str, Any]:
    """Return a verification as the API reads it."""
    return read_model(Verification, json.dumps(parts).encode())


@pytest.mark.parametrize("event", TRANSITIONS)
@pytest.mark.parametrize("status", get_args(Status))
def test_an_event_happens_in_the_statuses_that_know_it_and_in_no_other(event: str, status: Status) -> None:
    """Wherever the table leads nowhere, the call is refused with what is allowed; nothing leads out of an end."""
    told = "verify" if event in VERIFY else event
    row = msgspec.structs.replace(row_of(consent()), status=status)
    if told in allowed_events(status):
        assert current_row({"c1": row}, "c1", 1, told, allowed_events) is row
    else:
        with pytest.raises(RegistryError) as refused:
            current_row({"c1": row}, "c1", 1, told, allowed_events)
        assert (refused.value.code, refused.value.allowed) == ("wrong-status", allowed_events(status))
    if status in ("rejected", "superseded", "entered-in-error"):
        assert allowed_events(status) == ()


def test_no_patient_has_more_than_decisions_can_read_and_each_may_still_refuse() -> None:
    """Neither one document nor all together; what an exception inherits counts; a plain refusal is never turned away."""
    words = {"effect": "permit", "purposes": ["TREAT"] * 100, "exceptions": [{"effect": "permit"}] * 20}
    refusal = {"patient": "p-dana", "effect": "deny", "categories": ["genomics"]}
    facts, many = PatientFacts("p-dana"), refusal | {"exceptions": [{"effect": "permit", "labels": ["HIV"]}] * 20}

    def after(document: dict[str, Any], id_: str = "c-new") -> PatientFacts:
        return with_rows(facts, (row_of(document, id_),), Switches())

    too_long = refusal | {"exceptions": [words] * 10}
    assert len(json.dumps(too_long)) < MOST_SAID
    for document in (too_long, consent(exceptions=[words] * 10)):
        with pytest.raises(RegistryError) as refused:
            refuse_without_room(after(document), "c-new")
        assert refused.value.code == "too-much-said"
    while has_room(after(many, f"c{len(facts.consents)}"), f"c{len(facts.consents)}"):
        facts = after(many, f"c{len(facts.consents)}")
    assert 0 < MOST_TOGETHER - len(msgspec.json.encode(facts)) < MOST_SAID
    assert not has_room(after(consent(exceptions=many["exceptions"])), "c-new")
    facts = after(refusal)
    assert has_room(facts, "c-new") and has_room(after(refusal, "c-next"), "c-next")


def test_no_event_leads_to_a_permit_in_force_but_a_verification() -> None:
    """Nothing that was ended, invalid or rejected comes back."""
    ways = {(event, start) for event, moves in TRANSITIONS.items() for start, end in moves.items() if end == "active"}

    assert ways == {("activate", "draft")}


@pytest.mark.parametrize(("document", "status", "defect"), [
    (consent(), "draft", "signature"),
    (verified(), "active", None),
    (consent(start=None), "invalid", "incomplete"),
    (verified(owner=None), "invalid", "incomplete"),
    (changed(WRITTEN), "draft", "not_entered"),
    (changed(WRITTEN) | {"verification": {"signature": CHECKED}}, "draft", "not_entered"),
    (changed(WRITTEN) | {"verification": {"entry": ENTRY}}, "active", None),
    (changed(BY_REPRESENTATIVE), "draft", "signature"),
    (changed(BY_REPRESENTATIVE) | {"verification": {"signature": CHECKED}}, "draft", "rep_unverified"),
    (changed(BY_REPRESENTATIVE) | {"verification": {"representative": CHECKED}}, "draft", "signature"),
    (changed(BY_REPRESENTATIVE) | {"verification": {"signature": CHECKED, "representative": CHECKED}}, "active", None),
    (verified() | {"verification": {"signature": CHECKED | {"ok": False}}}, "rejected", "signature"),
])  # fmt: skip
def test_a_permit_is_in_force_once_all_that_its_form_asks_for_is_verified(
    document: dict[str, Any], status: str, defect: str | None
) -> None:
    """Until then it is a draft, invalid or rejected, and its projection has a defect or was never in force."""
    row = row_of(document)
    seen = project(row, Switches())

    assert (row.version, row.status, seen.defect) == (1, status, defect)
    assert seen.status == ("active" if status == "invalid" else status)


def test_verifications_add_up() -> None:
    """The signature today and the powers tomorrow: the second makes the consent count; each is a version."""
    row = row_of(changed(BY_REPRESENTATIVE))
    half = verified_row(row, checked(signature=CHECKED), ABOUT)
    whole = verified_row(half, checked(representative=CHECKED), ABOUT)

    assert [each.status for each in (row, half, whole)] == ["draft", "draft", "active"]
    assert [each.version for each in (row, half, whole)] == [1, 2, 3]
    assert [step.event for step in whole.body.steps] == ["create", "verify", "verify"]


@pytest.mark.parametrize("entry", [
    ENTRY | {"bin": "880808100203"}, ENTRY | {"bin": None}, ENTRY | {"at": None}, ENTRY | {"at": "2099-01-01T00:00:00Z"},
    ENTRY | {"eds_serial": " "}, ENTRY | {"scan_hash": None},
])  # fmt: skip
def test_a_paper_is_entered_under_the_operators_own_signature_or_not_at_all(entry: dict[str, Any]) -> None:
    """Another organisation's number, no moment, one to come, no serial, no hash of the scan (order §10)."""
    with pytest.raises(RegistryError) as refused:
        verified_row(row_of(changed(WRITTEN)), checked(entry=entry), ABOUT)

    assert refused.value.code == "verification-incomplete"
    assert {finding.item for finding in refused.value.findings} == {"R10"}


def test_a_check_of_powers_says_how_and_by_which_document() -> None:
    """A bare "yes" is no verification (order §11)."""
    with pytest.raises(RegistryError) as refused:
        verified_row(row_of(changed(BY_REPRESENTATIVE)), checked(representative={"ok": True}), ABOUT)

    assert {finding.item for finding in refused.value.findings} == {"R11"}


def test_a_refusal_binds_on_receipt() -> None:
    """No item, no signature, no beginning keeps it from use; one in unknown words closes everything."""
    doctors = {"grantees": [{"role": "doctor"}]}
    bare, later, *unread = (
        row_of({"patient": "p-dana", "effect": "deny"} | more)
        for more in (
            {}, {"start": "2099-01-01T00:00:00Z"},
            {"labels": ["SECRET"]}, doctors, {"exceptions": [{"effect": "deny"} | doctors]},
        )
    )  # fmt: skip

    assert (bare.status, project(bare, Switches()).root.start, project(bare, Switches()).granted_at) == (
        "active",
        None,
        NOW,
    )
    assert (later.status, project(later, Switches()).root.start) == ("active", None)
    assert [row.status for row in unread] == ["quarantined"] * 3
    assert all(project(row, Switches()).is_unread for row in unread)
    assert row_of({"patient": "p-dana", "effect": "deny", "grantees": [{"role": "physician"}]}).status == "active"


@pytest.mark.parametrize("over", [
    {"end": "2026-01-01T00:00:00Z"}, {"start": "2030-01-01T00:00:00Z", "end": render_instant(NOW)},
    {"data_period": {"start": "2026-01-02", "end": "2026-01-01"}},
    {"exceptions": [{"effect": "permit", "start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}]},
])  # fmt: skip
def test_a_refusal_that_is_over_before_it_begins_closes_everything_until_somebody_has_looked(over: Any) -> None:
    """It would be in force for nothing, and whoever refused believe that it is; one that ends later is in force."""
    row = row_of({"patient": "p-dana", "effect": "deny"} | over)
    assert row.status == "quarantined" and project(row, Switches()).is_unread
    later = {"end": "2099-01-01T00:00:00Z", "data_period": {"start": "2026-01-01", "end": "2026-01-01"}}
    assert row_of({"patient": "p-dana", "effect": "deny"} | later).status == "active"


def test_what_decisions_see_names_nobody() -> None:
    """Neither the projection nor what is kept in the open holds a word of the personal fields; the seal does."""
    row = row_of(changed(BY_REPRESENTATIVE) | {"verification": {"signature": CHECKED, "representative": CHECKED}})
    facts = with_rows(PatientFacts(id="p-dana"), (row,), Switches())
    opened = ABOUT.seal.open(row.sealed, "p-dana", "c1", 1)

    assert b"CANARY" in opened and b"880808100001" in opened
    for seen in (msgspec.json.encode(facts), msgspec.json.encode(row.body), row.sealed):
        assert b"CANARY" not in seen and b"8808081" not in seen


def test_a_successor_is_of_the_same_thread_in_force_and_newer() -> None:
    """Then the older is superseded; of another operator, unverified, or as old: refused, and nothing changes."""
    old = row_of(verified())
    later = {"signature.at": "2026-05-01T04:00:00Z"}
    replaced, new = in_place_of(old, row_of(changed(later, verified()), "c2"), ABOUT)
    assert (replaced.status, replaced.body.superseded_by, new.thread) == ("superseded", "c2", old.thread)

    for document, code in (
        (changed(later | {"operator.org": "h2"}, verified()), "other-thread"),
        (changed(later), "successor-not-in-force"),
        (verified(), "successor-not-newer"),
    ):
        with pytest.raises(RegistryError) as refused:
            in_place_of(old, row_of(document, "c2"), ABOUT)
        assert refused.value.code == code


def test_a_withdrawal_of_what_was_never_in_force_governs_nothing() -> None:
    """A draft or an invalid consent ends as rejected; one in force as revoked, with its instant."""
    ends = {
        row.status: moved(row, "withdraw", PATIENT, NOW)
        for row in map(row_of, (consent(), consent(start=None), verified()))
    }

    assert {start: end.status for start, end in ends.items()} == {
        "draft": "rejected",
        "invalid": "rejected",
        "active": "revoked",
    }
    assert project(ends["active"], Switches()).revoked_at == NOW


def test_without_a_key_nothing_is_recorded() -> None:
    """Full records need a key: no store is asked, no change begun."""
    vocabulary, _ = parse_vocabulary((ROOT / "policies" / "vocabulary.toml").read_text(), "vocabulary.toml")
    assert vocabulary is not None
    untouched: Any = None
    registry = ConsentRegistry(untouched, untouched, None, lambda: vocabulary, str, lambda: NOW)
    data = read_model(ConsentIn, json.dumps(consent()).encode())

    for call in (
        registry.create(DESK, data, Call()),
        registry.supersede(DESK, row_of(verified()), 1, data, Call()),
        registry.verify(DESK, row_of(consent()), 1, checked(signature=CHECKED)),
    ):
        with pytest.raises(NotConfiguredError, match="RUQSAT_RECORD_KEY"):
            asyncio.run(call)
