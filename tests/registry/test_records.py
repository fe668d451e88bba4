"""Delegations, powers, requests and sessions: what fails which item, which event leads where, what decisions see."""

import asyncio
import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ruqsat.core.consent_items import FIXES, LAWS
from ruqsat.core.facts import Consent, Delegation, EmergencyGrant, PatientFacts, Provision, Representation
from ruqsat.core.instant import HOUR, parse_instant
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS
from ruqsat.core.registered import (
    GRANT,
    KINDS,
    REPRESENTATION,
    VERDICTS,
    Kind,
    RecordRow,
    ended,
    moved,
    told_event,
    with_record,
)
from ruqsat.core.registered_items import CHECKS, Scene
from ruqsat.core.vocabulary import Switches
from ruqsat.service.consent_changes import Caller, RegistryError, current_row
from ruqsat.service.record_changes import new_record, refuse_stranger, reviewed, unsealed, verified
from ruqsat.service.record_registry import RecordRegistry
from ruqsat.service.record_seal import RecordSeal
from ruqsat.stores.sql_records import CONSENT
from ruqsat.web.consent_models import read_model
from ruqsat.web.problems import Refusal
from ruqsat.web.records import SHAPES
from tests.registry.corpus import FAILS, changed
from tests.registry.record_corpus import RECORD_FAILS, RECORD_REFUSED, RecordFails, RecordRefused
from tests.registry.record_documents import CHECK, REVIEW, whole
from tests.registry.test_items import CATALOGUE, NOW

SEAL = RecordSeal(bytes(32))
REASONS = ("unconscious", "life_threat")
SWITCHES = msgspec.structs.replace(Switches(), btg=msgspec.structs.replace(Switches().btg, reasons=REASONS))
FAMILY = Consent(
    "c-family", "p-dana|h1|delegation", "active", 0, Provision("permit", end=parse_instant("2099-04-01T04:00:00Z")),
    kind="delegation", delegations=("g-new",),
)  # fmt: skip
OLD = Delegation("g-arman", "c-family", "arman", NOW + HOUR, ("labs",), ("FAMRQT",))


def scene(**changes: Any) -> Scene:
    """Return what documents are held against: Dana's facts, with the consent that names one delegation."""
    facts = PatientFacts("p-dana", consents=(FAMILY,), delegations=(OLD,))
    usual = Scene(NOW, CATALOGUE, SWITCHES, facts, "ed_bolat", mfa=True)
    return msgspec.structs.replace(usual, **changes)


def read(kind: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document as the API reads it."""
    return read_model(SHAPES[kind].model, json.dumps(document).encode())


def row_of(kind: str, document: Mapping[str, Any] | None = None, **changes: Any) -> RecordRow:
    """Return the first version of a record."""
    data = read(kind, whole(kind) if document is None else document)
    return new_record(KINDS[kind], "id-1", data, scene(**changes), SEAL, strict=False)


def found(kind: str, document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the findings of a document."""
    subject = at_subject(document)
    about = scene(names_owner=subject in ("dana", "p-dana"))
    return [(each.path, each.item, each.code) for each in CHECKS[kind](read(kind, document), about)]


def at_subject(document: Mapping[str, Any]) -> Any:
    """Return the person that a document lets act."""
    return document.get("subject") or (document.get("delegate") or {}).get("subject")


def test_the_corpus_is_large_and_names_each_item_and_finding() -> None:
    """Forty or more over the four kinds; with the corpus of consents every item and every finding occurs."""
    assert len(RECORD_FAILS) + len(RECORD_REFUSED) >= 80
    assert {case.kind for case in RECORD_FAILS} == {case.kind for case in RECORD_REFUSED} == set(KINDS)
    both = (*FAILS, *RECORD_FAILS)
    of_proceedings = {kind.law[0] for kind in PROCEEDING_KINDS.values()}
    of_proceedings |= {move.law for kind in PROCEEDING_KINDS.values() for move in kind.moves.values()}
    others = set(LAWS) - {"R10", "R11"} - of_proceedings  # those two are of a verification
    assert {case.item for case in both} == others
    assert {case.code for case in both} == set(FIXES)


@pytest.mark.parametrize(("kind", "changes"), [
    *((kind, {}) for kind in KINDS),
    ("delegation", {"delegate.subject": None}),
    ("delegation", {"delegate.iin": None}),
    ("delegation", {"start": None, "labels": ["HIV"]}),
    ("representation", {"representative.authority.kind": "parent", "representative.authority.valid_to": None}),
    ("representation", {"representative.authority.valid_to": None}),
    ("request", {"authority.kind": "special_state_body", "paragraph": "273(4)(9)", "case_no": None}),
    ("request", {"deferred_notice": {"ground": "CANARY", "until": "2026-12-01T00:00:00Z"}}),
    ("grant", {"reason_text": " ten chars "+ "x", "scope": ["emergency_set"]}),
    ("grant", {"scope": ["clinical"], "scope_confirmed": True, "minutes": 30}),
])  # fmt: skip
def test_a_whole_record_fails_nothing(kind: str, changes: dict[str, Any]) -> None:
    """A record with all its items has no finding, in each of its forms."""
    assert found(kind, changed(changes, whole(kind))) == []


@pytest.mark.parametrize("case", RECORD_FAILS, ids=lambda case: f"{case.kind} {case.path} {case.code}")
def test_each_change_fails_its_item(case: RecordFails) -> None:
    """The place, the item and the code are among the findings; kept, the record is invalid and decisions see nothing."""
    document = changed(case.changes, whole(case.kind))
    assert (case.path, case.item, case.code) in found(case.kind, document)

    row = row_of(case.kind, document, names_owner=at_subject(document) in ("dana", "p-dana"))
    assert row.status == "invalid" and row.id == "id-1"
    assert with_record(KINDS[case.kind], scene().facts, row) == scene().facts
    for finding in row.body.items:
        assert finding.law and finding.fix
    assert b"CANARY" not in msgspec.json.encode(row.body) and b"880808" not in msgspec.json.encode(row.body)


@pytest.mark.parametrize("case", RECORD_REFUSED, ids=lambda case: f"{case.kind} {case.path} {case.field}")
def test_what_has_no_shape_is_refused_by_its_place(case: RecordRefused) -> None:
    """The problem document names the place and a code, and repeats nothing that was sent."""
    with pytest.raises(Refusal) as refused:
        read(case.kind, changed(case.changes, whole(case.kind)))

    places = [(each["path"], each["code"]) for each in refused.value.errors]
    assert refused.value.status == 422 and case.path in [path for path, _ in places]
    assert case.field is None or (case.path, case.field) in places
    assert "CANARY" not in repr(refused.value.errors) + refused.value.detail


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_an_event_happens_in_the_statuses_that_know_it_and_in_no_other(kind: Kind) -> None:
    """Wherever a table leads nowhere, the call is refused with what is allowed; no event leaves an end for what is in force."""
    statuses = {end for moves in kind.moves.values() for pair in moves.items() for end in pair} | {"invalid"}
    row = row_of(kind.name)
    for status in statuses:
        now = msgspec.structs.replace(row, status=status)
        for event, moves in kind.moves.items():
            if status in moves:
                assert current_row({row.id: now}, row.id, 1, told_event(event), kind.events) is now
                continue
            with pytest.raises(RegistryError) as refused:
                current_row({row.id: now}, row.id, 1, told_event(event), kind.events)
            assert (refused.value.code, refused.value.allowed) == ("wrong-status", kind.events(status))
    opens = {"active", "recorded", "verified", "received", "open"}
    back = {(event, start) for event, moves in kind.moves.items() for start, end in moves.items() if end in opens}
    assert back <= {("verify", "draft"), ("verify", "recorded"), ("verify", "received")}


def test_what_decisions_see_follows_each_event() -> None:
    """In force: there and living; ended: there with its instant; a draft or a rejected one: not there."""
    facts, by = PatientFacts("p-dana"), "somebody"
    for name, event, mark in (
        ("delegation", "revoke", "revoked_at"), ("delegation", "renounce", "revoked_at"),
        ("representation", "end", "revoked_at"), ("request", "close", "revoked_at"),
        ("grant", "close", "end"), ("grant", "revoke", "revoked_at"),
    ):  # fmt: skip
        kind, row = KINDS[name], row_of(name)
        if name in ("representation", "request"):
            (waiting,) = getattr(with_record(kind, facts, row), kind.facts)
            assert not waiting.verified
            row = moved(kind, row, "verify", by, NOW, {"verified": True})
        (seen,) = getattr(with_record(kind, facts, row), kind.facts)
        assert getattr(seen, mark) != NOW + HOUR and getattr(seen, "verified", True)

        over = moved(kind, row, event, by, NOW + HOUR, {})
        (seen,) = getattr(with_record(kind, facts, over), kind.facts)
        assert getattr(seen, mark) == NOW + HOUR, (name, event)
    draft = row_of("delegation", changed({"delegate.subject": None}, whole("delegation")))
    assert with_record(KINDS["delegation"], facts, draft) == facts
    rejected = moved(KINDS["representation"], row_of("representation"), "reject", by, NOW, {})
    assert with_record(KINDS["representation"], facts, rejected) == facts


def test_the_server_sets_the_term_of_a_session() -> None:
    """From now, four hours at most, whatever was asked for; less if less was."""
    for minutes, length in ((None, 4 * HOUR), (1440, 4 * HOUR), (241, 4 * HOUR), (30, HOUR // 2)):
        said = row_of("grant", whole("grant", minutes=minutes)).body.said
        assert (said["start"], said["end"], said["subject"], said["mfa"]) == (NOW, NOW + length, "ed_bolat", True)


def test_a_session_is_closed_by_its_own_clinician_and_revoked_and_reviewed_by_another() -> None:
    """A session is closed by its own clinician and revoked and reviewed by another, and not the other way round."""
    row, own, other = row_of("grant"), Caller("ed_bolat"), Caller("dpo_assel")
    for event, caller in (("close", own), ("revoke", other), ("review", other)):
        refuse_stranger(GRANT, row.body.said, event, caller)
    for event, caller in (("close", other), ("revoke", own), ("review", own)):
        with pytest.raises(RegistryError, match="own clinician"):
            refuse_stranger(GRANT, row.body.said, event, caller)


def test_what_only_decisions_know_is_ended_by_whom_its_record_would_be() -> None:
    """A guardian's power is not for the ward to end, nor for another representative; that nobody else holds one opens."""
    facts = PatientFacts("p-dana", representations=(Representation("q1", "saule", "guardian", True),))
    changed: list[PatientFacts] = []

    class Changes:
        """Applies what it is told to facts that stay."""

        async def change_patient(self, _: str, change: Callable[[PatientFacts], PatientFacts]) -> None:
            """Keep what came of it."""
            changed.append(change(facts))

    registry: Any = RecordRegistry(
        REPRESENTATION, None, Changes(), None, vocabulary=None, token=lambda: "t", now=lambda: NOW,  # type: ignore[arg-type]
    )  # fmt: skip

    def end(caller: Caller) -> None:
        asyncio.run(registry.end(caller, "q1", "p-dana", None, None, "end"))

    for stranger in (Caller("dana", basis="self"), Caller("aunt", basis="legal_rep")):
        with pytest.raises(RegistryError) as told:
            end(stranger)
        assert told.value.code == "not-yours"
    assert changed == []
    for entitled in (Caller("saule", basis="legal_rep"), Caller("reg_saltanat", desk=True)):
        end(entitled)
    assert [each.representations[0].revoked_at for each in changed] == [NOW, NOW]


@pytest.mark.parametrize(
    ("consent", "patient", "kind", "keeper"),
    [
        ("c-family", "p-dana", "delegation", "h1"), ("c-family", "p-other", "delegation", None),
        ("c-imported", "p-dana", "delegation", None), ("c-family", "p-dana", "representation", None),
    ],
)  # fmt: skip
def test_a_delegation_without_a_record_is_kept_by_the_office_of_its_consent(
    consent: str, patient: str, kind: str, keeper: str | None
) -> None:
    """Where that has a full record, of the same patient; of anything else no office is known."""
    link = msgspec.structs.replace(OLD, consent=consent)

    class Store:
        """Holds one consent of Dana's."""

        async def find_registered(self, kind: str, id_: str) -> Any:
            """Return it by its id."""
            return SimpleNamespace(org="h1", patient="p-dana") if (kind, id_) == ("consent", "c-family") else None

    class Changes:
        """Knows one delegation."""

        async def fetch(self, _: None, wanted: str) -> Any:
            """Return the facts of its patient."""
            return SimpleNamespace(patient=PatientFacts(wanted, delegations=(link,)))

    registry: Any = RecordRegistry(
        KINDS[kind], Store(), Changes(), None, vocabulary=None, token=None, now=None,  # type: ignore[arg-type]
    )  # fmt: skip

    assert asyncio.run(registry.keeper_of(patient, "g-arman")) == keeper


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_review_ends_what_is_over_and_waits_for_what_runs(verdict: str) -> None:
    """Closed, revoked or run out: reviewed; still open: not; unclear is reviewed again, a verdict stands."""
    officer, said = Caller("dpo_assel"), REVIEW | {"verdict": verdict}
    row = row_of("grant")
    with pytest.raises(RegistryError, match="still runs"):
        reviewed(row, said, officer, NOW + HOUR, SEAL)
    after = [
        reviewed(each, said, officer, NOW + 4 * HOUR, SEAL)
        for each in (row, *(moved(GRANT, row, event, "somebody", NOW + 1, {}) for event in ("close", "revoke")))
    ]
    assert {each.status for each in after} == {verdict}
    for each in after:
        (seen,) = with_record(GRANT, PatientFacts("p-marat"), each).grants
        assert seen.revoked_at is not None or seen.end <= NOW + 4 * HOUR  # over stays over
        assert unsealed(each, SEAL)["review"] == [said]
    assert ("review" in GRANT.events(verdict)) == (verdict == "unclear")


def test_a_check_says_how_and_by_which_document_and_who_the_delegate_is() -> None:
    """A bare "yes" is none; nor is one that says that the delegate is the patient; what does not hold rejects."""
    desk = Caller("reg_saltanat", desk=True)
    draft = row_of("delegation", changed({"delegate.subject": None}, whole("delegation")))
    assert draft.status == "draft"
    kind = KINDS["delegation"]
    for check, owner, code in (
        ({"ok": True, "method": None, "document_ref": None, "subject": "arman"}, False, "missing"),
        (CHECK | {"subject": None}, False, "missing"),
        (CHECK | {"subject": "dana"}, True, "same_person"),
    ):
        with pytest.raises(RegistryError) as refused:
            verified(kind, draft, check, owner, desk, NOW, SEAL)
        assert code in {each.code for each in refused.value.findings}
    known = verified(kind, draft, CHECK | {"subject": "arman"}, False, desk, NOW, SEAL)
    assert (known.status, known.version, known.body.said["delegate"]) == ("active", 2, "arman")
    for name, end in (("delegation", "rejected"), ("representation", "rejected"), ("request", "rejected")):
        row = draft if name == "delegation" else row_of(name)
        check = CHECK | {"ok": False, "subject": None}
        assert verified(KINDS[name], row, check, False, desk, NOW, SEAL).status == end


def test_a_power_is_ended_by_a_desk_its_holder_or_the_giver_of_an_attorney() -> None:
    """A child does not end a parent's power, a representative not another's."""
    poa = row_of("representation")
    parent = row_of(
        "representation",
        changed(
            {"representative.authority.kind": "parent", "representative.authority.valid_to": None},
            whole("representation"),
        ),
    )
    kind = KINDS["representation"]
    for row in (poa, parent):
        refuse_stranger(kind, row.body.said, "end", Caller("reg_saltanat", desk=True))
        refuse_stranger(kind, row.body.said, "end", Caller("saule", basis="legal_rep"))
    refuse_stranger(kind, poa.body.said, "end", Caller("dana", basis="self"))
    for row, caller in ((parent, Caller("dana", basis="self")), (poa, Caller("other", basis="legal_rep"))):
        with pytest.raises(RegistryError) as refused:
            refuse_stranger(kind, row.body.said, "end", caller)
        assert refused.value.code == "not-yours"


def test_a_link_below_another_is_the_delegates_own_and_no_deeper_than_the_switch() -> None:
    """At depth two the delegate hands on what may be handed on, as far as the owner's limit."""
    document = changed({"parent": "g-arman", "id": None, "delegate.subject": "friend"}, whole("delegation"))
    deep = msgspec.structs.replace(SWITCHES, delegation_max_depth=2)

    def codes(above: Delegation, by: str, switches: Switches) -> set[str]:
        facts = PatientFacts("p-dana", consents=(FAMILY,), delegations=(above,))
        about = scene(facts=facts, by=by, switches=switches)
        return {each.code for each in CHECKS["delegation"](read("delegation", document), about)}

    may = msgspec.structs.replace(OLD, may_redelegate=True)
    assert codes(may, "arman", deep) == set()
    assert codes(may, "arman", SWITCHES) == {"too_deep"}
    for above, by in (
        (OLD, "arman"), (may, "dana"), (msgspec.structs.replace(may, revoked_at=NOW), "arman"),
        (msgspec.structs.replace(may, end=NOW), "arman"), (msgspec.structs.replace(may, consent="c-other"), "arman"),
    ):  # fmt: skip
        assert codes(above, by, deep) == {"not_redelegable"}


def test_what_decisions_see_names_nobody() -> None:
    """Neither facts nor what is kept in the open holds a word of the personal fields; the seal does, for its kind alone."""
    for name, kind in KINDS.items():
        row = row_of(name)
        for kept in (
            msgspec.json.encode(with_record(kind, PatientFacts("p"), row)),
            msgspec.json.encode(row.body),
            row.sealed,
        ):
            assert b"CANARY" not in kept and b"880808" not in kept and b"3012400" not in kept
        assert "CANARY" in json.dumps(unsealed(row, SEAL))
        with pytest.raises(Exception, match="does not open"):
            unsealed(msgspec.structs.replace(row, kind="other"), SEAL)
        assert name != CONSENT


def test_what_is_on_record_for_decisions_alone_can_be_ended_once() -> None:
    """The first end keeps its instant, one to come gives way; nothing else of the facts changes."""
    facts = PatientFacts("p", delegations=(OLD,), grants=(EmergencyGrant("s", "x", 0, 9, "unconscious", 20),))
    first = ended(KINDS["delegation"], facts, "g-arman", NOW)
    assert first.delegations[0].revoked_at == NOW and first.grants == facts.grants
    assert ended(KINDS["delegation"], first, "g-arman", NOW + 1) == first
    assert ended(KINDS["delegation"], facts, "no-such", NOW) == facts
    later = PatientFacts("p", delegations=(msgspec.structs.replace(OLD, revoked_at=NOW + 9),))
    assert ended(KINDS["delegation"], later, "g-arman", NOW).delegations[0].revoked_at == NOW
