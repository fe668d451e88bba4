"""
Every switch of the pack, on both sides: what is answered at one position, and what at the other.

Numbers stand on their boundary: what is just allowed at the first position is no more
at the next, and the other way round, moments to the microsecond.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from ruqsat.casbin.decider import OracleDecider
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Grantee
from ruqsat.core.instant import HOUR, parse_instant, render_instant
from ruqsat.core.pack import Parts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import LegalRequest
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import DelegationRecord, EpisodeRecord, OrganisationRecord, RepresentationRecord, SubjectRecord
from tests.conformance.life import FAMILY, HOW, PLAIN, session
from tests.conformance.living_world import ADULT, BEGIN, CHILD, DAY, Question, Town, beginning, document, with_record
from tests.conformance.reference import VOCABULARY
from tests.conformance.reference import decide as by_reference

REGISTRY = "btg.rates."
"""Switches that no decision reads but the registry of sessions: ``tests/core/test_break_glass.py`` has both sides of each."""
OURS = {"art16_grounds", "very_restricted_roles", "home_utc_offset_hours", "requests_must_be_registered"}
"""Switches of the pack beside those of the design's own list."""

TERM = (-HOUR, 30 * DAY)
BIRTHDAY = parse_instant("2026-11-24T00:00:00+05:00")
EIGHTEEN, SIXTEEN, SEVENTEEN = date(2008, 11, 24), date(2010, 11, 24), date(2009, 11, 24)
"""Who turns so old at that midnight."""

CARE = {"c1": document(ADULT, "h1", BEGIN, TERM, PLAIN)}
IN_CARE = {
    "e1": EpisodeRecord(patient=ADULT, org="h1", form_of_care="emergency", opened_at=render_instant(BEGIN - DAY))
}


def glass(start: int = BEGIN, length: int = HOUR, **more: Any) -> dict[str, Any]:
    """Return a session of the emergency clinician, and the episode that it needs."""
    return {"btg": {"s1": session("ed_bolat", ADULT, start, length, **more)}, "episodes": IN_CARE}


def links(length: int, by: str = ADULT) -> dict[str, Any]:
    """Return a chain of so many links, of which the last is the friend's, and the consent that names it."""
    holders = ["arman", "child", "friend"][-length:]
    usual = {"patient": ADULT, "consent": "c1", "categories": ("clinical",), "purposes": ("FAMRQT",)}
    chain = {
        f"g{number}": DelegationRecord(
            delegate=holder, delegator=holders[number - 1] if number else by, may_redelegate=True,
            parent=f"g{number - 1}" if number else None, end=render_instant(BEGIN + DAY), **usual,
        ) for number, holder in enumerate(holders)
    }  # fmt: skip
    named = document(ADULT, "family", BEGIN, TERM, FAMILY, kind="delegation", delegations=("g0",))
    return {"consents": {"c1": named}, "delegations": chain}


def but_for(refused: str) -> dict[str, Any]:
    """Return a chain of two links, of whose holders the patient refuses one since."""
    chain = links(2)
    refusal = document(
        ADULT, "apart", BEGIN, TERM, {"effect": "deny", "grantees": (Grantee(subject=refused),)}, kind="dissent"
    )
    return {**chain, "consents": {**chain["consents"], "c2": refusal}}


def mother(patient: str = CHILD) -> dict[str, Any]:
    """Return the mother's power."""
    return {"reps": {"q1": RepresentationRecord(subject="saule", patient=patient, kind="parent", verified=True)}}


def own_consent(granted: int, **how: Any) -> dict[str, Any]:
    """Return what the child signed, or somebody for the child."""
    return {"consents": {"c1": document(CHILD, "h1", granted, TERM, PLAIN, **how)}}


class Asked(NamedTuple):
    """A question in a world, and what of the request is not as a question says it."""

    who: str
    what: str
    purpose: str = "TREAT"
    patient: str = ADULT
    now: int = BEGIN
    born: date | None = None
    records: Mapping[str, Mapping[str, Any]] = {}
    resource: Mapping[str, Any] = {}
    context: Mapping[str, Any] = {}

    def situation(self, switches: Switches) -> Any:
        """Return request, facts and moment, the facts as they are registered under these switches."""
        world = beginning(self.born)
        for kind, records in self.records.items():
            for name, record in records.items():
                world = with_record(world, kind, name, record)
        action, data_class = self.what.split()
        usual: Any = ((), False, None, None, True, "HIV", "TREAT")
        asked = Question(self.who, (self.purpose,), action, data_class, self.patient, "s1", *usual)
        request, facts, now = Town.of(world, switches).situation(asked, self.now)
        properties = replace(request.resource.properties, **self.resource)
        context = replace(request.context, **self.context)
        resource = replace(request.resource, properties=properties)
        if properties.patient is None:
            facts = replace(facts, patient=None)
        return replace(request, resource=resource, context=context), facts, now


class Row(NamedTuple):
    """
    A switch, a question, and what is answered at two positions; ``beside`` are other switches that it needs.

    An answer is a reason, or a reason and a duty.
    """

    switch: str
    asked: Asked
    one: tuple[Any, str]
    other: tuple[Any, str]
    beside: Mapping[str, Any] = {}


READ = Asked("dr_aida", "read labs", records={"consents": CARE})
ED = Asked("ed_bolat", "read labs", "BTG", records=glass())
FRIEND = Asked("friend", "read labs", "FAMRQT")
MOTHER = Asked("saule", "read labs", "PWATRNY", CHILD, BIRTHDAY, EIGHTEEN, mother())
MINOR = Asked("dr_aida", "read labs", "TREAT", CHILD, BIRTHDAY, SIXTEEN)
HOSPITAL = {"organisations": {"university": OrganisationRecord("research_organisation", True)},
            "subjects": {"res": SubjectRecord(("researcher",), "university")}}  # fmt: skip
OFFICE = {"subjects": {"rec": SubjectRecord(("records_officer",), "h1")}}
COURT = LegalRequest("rq-1", "court", ADULT, ("labs",), "2-1140/26", verified=True)
STUDY = Asked("res", "read labs", "HRESCH", records=HOSPITAL, resource={"patient": None, "deidentified": True})
SHIELD = MOTHER._replace(born=SIXTEEN, resource={"labels": ("SEX",)})
CONSENT, OVERRIDE, LEGAL, DELEGATED = "allow.consent", "allow.emergency.override", "allow.legal_rep", "allow.delegation"
SHIELDED, MAJORITY, ABROAD = "deny.rep.adolescent_shield", "deny.rep.majority", "deny.crossborder.inadequate"
HELD = document(ADULT, "study", BEGIN, TERM, {
    "effect": "permit", "grantees": (Grantee(org="university"),), "purposes": ("HRESCH",), "categories": ("labs",),
}, kind="research")  # fmt: skip
NOTES = document(ADULT, "h1", BEGIN, TERM, {**PLAIN, "labels": ("PSY",)})
STATE = document(ADULT, "h1", BEGIN, TERM, PLAIN, controller_is_state=True)


def told(asked: Asked, **records: Any) -> Asked:
    """Return the question in a world with these records."""
    return asked._replace(records={**asked.records, **records})


TABLE = (
    Row("require_care_relationship", told(READ, relationships={
        f"{ADULT}-h1": replace(beginning(None).relationships[f"{ADULT}-h1"], org="h2")}),
        (True, "deny.relationship.none"), (False, CONSENT)),
    Row("sensitive_requires_explicit", READ._replace(resource={"labels": ("HIV",)}),
        (True, "deny.sensitivity.not_covered"), (False, CONSENT)),
    Row("sensitive_requires_explicit", READ._replace(what="read free", resource={"data_class": "labs", "labels": None}),
        (True, "deny.sensitivity.not_covered"), (False, CONSENT)),
    Row("delegation_max_depth", told(FRIEND, **links(1)), (1, DELEGATED), (0, "deny.delegation.depth")),
    Row("delegation_max_depth", told(FRIEND, **links(2)), (1, "deny.delegation.depth"), (2, DELEGATED)),
    Row("delegation_max_depth", told(FRIEND, **but_for("child")), (1, "deny.delegation.depth"), (2, "deny.delegation.redelegation")),
    Row("delegation_max_depth", told(FRIEND, **links(3)), (2, "deny.delegation.depth"), (3, DELEGATED)),
    Row("rep_may_delegate", told(FRIEND, **links(1, "saule"), **mother(ADULT)),
        (False, "deny.delegation.delegator"), (True, DELEGATED)),
    Row("patient_reported_write", Asked("dana", "create patient_reported", "PATRQT"),
        (False, "deny.self.action"), (True, "allow.self provenance")),
    Row("small_cell_min", STUDY._replace(context={"cohort_size": 4}),
        (5, "deny.research.small_cell"), (4, "allow.deidentified")),
    Row("small_cell_min", STUDY._replace(context={"cohort_size": 5}),
        (5, "allow.deidentified"), (6, "deny.research.small_cell")),
    Row("research_identifiable_with_consent", told(STUDY._replace(resource={}), consents={"c1": HELD}),
        (False, "deny.research.identifiable"), (True, "allow.research_consent")),
    Row("rep_consent_grace_days", MINOR._replace(
        born=EIGHTEEN, now=BIRTHDAY + DAY - 1, records=own_consent(BIRTHDAY - HOUR, **HOW["parent"])),
        (0, "deny.consent.rep_majority"), (1, CONSENT)),
    Row("rep_consent_grace_days", MINOR._replace(
        born=EIGHTEEN, now=BIRTHDAY + DAY, records=own_consent(BIRTHDAY - HOUR, **HOW["parent"])),
        (1, "deny.consent.rep_majority"), (2, CONSENT)),
    Row("very_restricted_roles", Asked("nurse_gulnar", "read documents", records={"consents": {"c1": NOTES}},
        resource={"labels": ("PSYTHPN",)}),
        (("physician",), "deny.sensitivity.very_restricted"), (("physician", "nurse"), CONSENT)),
    Row("blocked_emergency_read", ED._replace(resource={"blocked": True}),
        (True, OVERRIDE), (False, "deny.resource.blocked")),
    Row("rep_access_ends_at", MOTHER, (18, MAJORITY), (19, LEGAL)),
    Row("rep_access_ends_at", MOTHER._replace(now=BIRTHDAY - 1), (18, LEGAL), (17, MAJORITY)),
    Row("minor_self_from_age", told(MINOR, **own_consent(BIRTHDAY)), (16, CONSENT), (17, "deny.consent.minor")),
    Row("minor_self_from_age", told(MINOR._replace(now=BIRTHDAY - 1), **own_consent(BIRTHDAY - 1)),
        (16, "deny.consent.minor"), (15, CONSENT)),
    Row("minor_self_classes", told(MINOR._replace(what="read documents", born=SEVENTEEN), **own_consent(BIRTHDAY)),
        (("encounters", "labs", "imaging", "vitals", "immunizations"), "deny.consent.minor_scope"),
        (("documents",), CONSENT)),
    Row("state_controller_needs_state_service", told(READ, consents={"c1": STATE}),
        (True, "deny.consent.channel"), (False, CONSENT)),
    Row("btg_required_conf", ED._replace(purpose="ETREAT", resource={"conf": "V"}),
        (("V",), "deny.emergency.btg_required"), ((), "allow.emergency.default")),
    Row("btg_required_conf", ED._replace(purpose="ETREAT", resource={"conf": "R"}),
        (("V",), "allow.emergency.default"), (("R", "V"), "deny.emergency.btg_required")),
    Row("adequate_countries", READ._replace(context={"destination_country": "DE"}),
        (("KZ",), ABROAD), (("KZ", "DE"), f"{CONSENT} encrypt_transit")),
    Row("art16_grounds", READ._replace(context={"destination_country": "DE", "art16_3": "treaty"}),
        (("treaty", "law", "rights"), CONSENT), (("law", "rights"), ABROAD)),
    Row("home_utc_offset_hours", MOTHER, (5, MAJORITY), (4, LEGAL)),
    Row("home_utc_offset_hours", MOTHER._replace(now=BIRTHDAY - 1), (5, LEGAL), (6, MAJORITY)),
    Row("requests_must_be_registered", Asked("rec", "read labs", "HLEGAL", records=OFFICE, context={"legal_request": COURT}),
        (False, "allow.statutory"), (True, "deny.statutory.no_request")),
    Row("adolescent_shield.enabled", SHIELD, (False, LEGAL), (True, SHIELDED)),
    Row("adolescent_shield.from_age", SHIELD, (16, SHIELDED), (17, LEGAL), {"adolescent_shield": {"enabled": True}}),
    Row("adolescent_shield.from_age", SHIELD._replace(now=BIRTHDAY - 1), (16, LEGAL), (15, SHIELDED),
        {"adolescent_shield": {"enabled": True}}),
    Row("adolescent_shield.labels", SHIELD, (("SEX", "STD", "PSY", "SUD"), SHIELDED), (("PSY",), LEGAL),
        {"adolescent_shield": {"enabled": True}}),
    Row("adolescent_shield.labels", SHIELD._replace(resource={"labels": ("ETHUD",)}),
        (("SEX", "SUD"), SHIELDED), (("SEX", "PSY"), LEGAL), {"adolescent_shield": {"enabled": True}}),
    Row("btg.max_hours", told(ED._replace(now=BEGIN + 4 * HOUR - 1), **glass(length=9 * HOUR)),
        (4, OVERRIDE), (3, "deny.btg.expired")),
    Row("btg.max_hours", told(ED._replace(now=BEGIN + 4 * HOUR), **glass(length=9 * HOUR)),
        (4, "deny.btg.expired"), (5, OVERRIDE)),
    Row("btg.min_text", told(ED, **glass(reason_text=f" {'x' * 9} ")), (10, "deny.btg.reason"), (9, OVERRIDE)),
    Row("btg.min_text", told(ED, **glass(reason_text=f" {'x' * 10} ")), (10, OVERRIDE), (11, "deny.btg.reason")),
    Row("btg.mfa", told(ED, **glass(mfa=False)), (True, "deny.btg.mfa"), (False, OVERRIDE)),
    Row("btg.require_episode", ED._replace(records={"btg": glass()["btg"]}),
        (True, "deny.btg.no_episode"), (False, OVERRIDE)),
    Row("btg.daily_limit", told(ED, subjects={"ed_bolat": SubjectRecord(("emergency_clinician",), "h1", btg_today=10)}),
        (10, OVERRIDE), (9, "deny.btg.rate_limited")),
    Row("btg.daily_limit", told(ED, subjects={"ed_bolat": SubjectRecord(("emergency_clinician",), "h1", btg_today=11)}),
        (10, "deny.btg.rate_limited"), (11, OVERRIDE)),
    Row("btg.reasons", ED, (("unconscious",), OVERRIDE), (("life_threat",), "deny.btg.reason")),
    Row("btg.actions", ED._replace(what="search labs"), (("read", "search"), OVERRIDE), (("read",), "deny.btg.action")),
    Row("btg.review_within_hours", ED, (72, f"{OVERRIDE} review:72"), (24, f"{OVERRIDE} review:24")),
)  # fmt: skip
NAMES = [f"{number:02} {row.switch}" for number, row in enumerate(TABLE)]


def flat(switches: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the positions by the full names of the switches."""
    for name, value in switches.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield above + name, list(value) if isinstance(value, tuple | list) else value


def positions(row: Row, position: Any) -> dict[str, Any]:
    """Return the switches of a row at a position."""
    outer, _, inner = row.switch.partition(".")
    if not inner:
        return {**row.beside, outer: position}
    return {**row.beside, outer: {**row.beside.get(outer, {}), inner: position}}


def meets(decision: Decision, answer: str) -> bool:
    """Tell whether a decision is the one that a row states."""
    return set(answer.split()) <= {decision.reason, *decision.duties}


@pytest.mark.parametrize("row", TABLE, ids=NAMES)
def test_a_switch_decides(row: Row, variant: Callable[..., PolicySet]) -> None:
    """At each of two positions the answer is its own, and not the other's."""
    for (position, answer), (_, opposite) in ((row.one, row.other), (row.other, row.one)):
        policy_set = variant(positions(row, position))
        situation = row.asked.situation(policy_set.vocabulary.switches)
        decision = evaluate(policy_set, *situation, frozenset(policy_set.vocabulary.duties))

        assert meets(decision, answer), f"at {position}: {decision}"
        assert not meets(decision, opposite)


@pytest.mark.slow
def test_stock_pycasbin_and_the_reference_say_the_same_of_every_switch(
    pack_texts: dict[str, bytes], policy_set: PolicySet
) -> None:
    """The oracle at every position, the reference at those that the design sets."""
    shipped, at_shipped = dict(flat(msgspec.to_builtins(policy_set.vocabulary.switches))), 0
    oracles: dict[str, OracleDecider] = {}
    for row in TABLE:
        for position, answer in (row.one, row.other):
            chosen = positions(row, position)
            oracle = oracles.setdefault(repr(chosen), OracleDecider(pack_texts, chosen))
            situation = row.asked.situation(oracle._vocabulary.switches)

            assert meets(oracle.decide(*situation, frozenset(policy_set.vocabulary.duties)), answer), row.switch
            if all(shipped[name] == value for name, value in flat(chosen)):
                at_shipped += 1
                _, reason, _, duties = by_reference(situation[0], situation[1], situation[2].lo)
                assert set(answer.split()) <= {reason, *duties}, row.switch
    assert at_shipped > len(TABLE) / 2


def test_every_switch_has_a_row_whose_answers_differ(policy_set: PolicySet) -> None:
    """None that decisions read is left out, and no row states one answer twice or one position twice."""
    shipped = dict(flat(msgspec.to_builtins(policy_set.vocabulary.switches))).keys()
    assert {row.switch for row in TABLE} == {name for name in shipped if not name.startswith(REGISTRY)}
    assert all(row.one[0] != row.other[0] and row.one[1] != row.other[1] for row in TABLE)


def test_every_default_of_the_design_is_a_switch_at_that_position(parts: Parts) -> None:
    """The shipped pack, as it is written, stands where the design says; four switches are ours, and those of the registry."""
    shipped = dict(flat(msgspec.to_builtins(parts.vocabulary.switches)))
    designed = dict(flat(VOCABULARY["policy_defaults"]))

    assert {name: shipped.get(name) for name in designed} == designed
    assert {name for name in shipped.keys() - designed.keys() if not name.startswith(REGISTRY)} == OURS


def test_a_number_has_rows_on_both_sides_of_its_boundary(policy_set: PolicySet) -> None:
    """Of two rows one is just allowed at the shipped number, the other just denied; review hours allow either way."""
    shipped = dict(flat(msgspec.to_builtins(policy_set.vocabulary.switches)))
    numbers = {name for name, value in shipped.items() if type(value) is int and not name.startswith(REGISTRY)}
    numbers -= {"btg.review_within_hours"}
    for name in numbers:
        rows = [row for row in TABLE if row.switch == name]
        reached = {position - shipped[name] for row in rows for position, _ in (row.one, row.other)}
        assert len(rows) >= 2, name
        assert {1, -1} <= reached or name == "rep_consent_grace_days", name
