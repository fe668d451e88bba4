"""The order's own list of situations (requirements, section 9): each is decided, counted or refused as it says."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import msgspec
import pytest

from ruqsat.core.cases import PolicyCase, run_case
from ruqsat.core.conformance import decide_scenario
from ruqsat.core.consent_items import Failing
from ruqsat.core.identification import is_identification_number
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.proceeding import failing_move
from ruqsat.core.proceeding_kinds import INFORMATION
from ruqsat.core.projection import formal_defect
from ruqsat.core.working_days import TERMS, WorkingDays
from ruqsat.core.world import World
from tests.conformance.test_scenarios import FILE, SCENARIOS


def about(patient: str, data_class: str, **more: Any) -> dict[str, Any]:
    """A record as a caller describes it."""
    return {"patient": patient, "class": data_class, "labels": [], **more}


COURT = {
    "ref": "rq-1",
    "authority": "court",
    "case_no": "2-1",
    "verified": True,
    "patient": "p-dana",
    "categories": ["labs"],
}
ADVOCATE = COURT | {"authority": "advocate", "case_no": None}

DECIDED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "1 doctor, care relation, consent": ("dr_aida read o1 TREAT", "allow.consent", {}),
    "2 the same, the consent has ended": (
        "dr_aida read o1 TREAT", "deny.consent.expired", {"at": datetime.fromisoformat("2099-01-11T10:00:00+05:00"), "without": ("c-dana-family",)}
    ),
    "3 the same, the purpose differs": ("dr_aida read o1 THREAT", "deny.consent.purpose", {}),
    "4 emergency, open episode, no consent": (
        "nurse_gulnar read x ETREAT", "allow.emergency.default",
        {"resource": about("p-edil", "labs"), "without": ("d-edil-treat", "d-edil-urgent")},
    ),
    "5 as 4, a pharmacy's physician": ("dr_shop read a1 ETREAT", "deny.organisation.function", {}),
    "6 as 4, no open episode": (
        "ed_bolat read x ETREAT", "deny.emergency.no_context", {"resource": about("p-teen", "labs")}
    ),
    "7 unconscious, a representative is reachable": (
        "dr_aida read x TREAT", "deny.consent.none", {"resource": about("p-aru", "labs")}
    ),
    "8 unconscious, no representative, planned care": ("dr_aida read s1 TREAT", "allow.statutory", {}),
    "9 an advocate without a case number": (
        "rec_marzhan read o1 HLEGAL", "deny.statutory.no_request", {"context": {"legal_request": ADVOCATE}}
    ),
    "10 a court's request: what it names": (
        "rec_marzhan read o1 HLEGAL", "allow.statutory", {"context": {"legal_request": COURT}}
    ),
    "10 a court's request: what it does not name": (
        "rec_marzhan read x HLEGAL", "deny.statutory.scope",
        {"context": {"legal_request": COURT}, "resource": about("p-dana", "documents")},
    ),
    "11 the fund reads a result for marketing": (
        "ins_kamila read x HMARKT", "deny.role.purpose", {"resource": about("p-aigul", "procedures")}
    ),
    "12 a researcher with consent, data that name the patient": (
        "res_zarina read g1 HRESCH", "deny.research.identifiable", {}
    ),
    "13 a researcher, data that name nobody": (
        "res_zarina read set HRESCH", "allow.deidentified",
        {"resource": {"class": "labs", "labels": [], "deidentified": True}},
    ),
    "14 a patient reads the own record": ("dana read o1 PATRQT", "allow.self", {}),
    "14 and the own journal": ("dana journal_read j PATRQT", "allow.self", {"resource": about("p-dana", "journal")}),
    "15 a patient edits the own record": ("dana update o1 PATRQT", "deny.self.action", {}),
    "16 a power of attorney without a date": (
        "saule read x PWATRNY", "deny.rep.undated", {"resource": about("p-nurlan", "labs")}
    ),
    "17 a visit that a seventeen-year-old consented to alone": (
        "saule read x PWATRNY", "deny.rep.adolescent_shield",
        {"resource": about("p-teen", "labs", self_consented=True)},
    ),
    "18 a relative whom no consent names": (
        "arman read x FAMRQT", "deny.delegation.none", {"resource": about("p-nurlan", "labs")}
    ),
    "25 a blocked record": ("dr_aida read d1 TREAT", "deny.resource.blocked", {}),
    "26 a student reads for curiosity": (
        "trn_ilyas read o1 TRAIN", "deny.consent.purpose", {}
    ),
    "26 a student hands on": ("trn_ilyas disclose o1 TRAIN", "deny.role.action", {}),
    "34 a register is linked with another": (
        "dr_aida read o1 TREAT", "deny.linking.forbidden", {"context": {"links_databases": True}}
    ),
}  # fmt: skip

AS_SCENARIOS = {
    "19 paper that was not entered": ("A34", "deny.consent.not_entered"),
    "20 a state hospital, paper only": ("A37", "deny.consent.channel"),
    "22 an entry that nobody can sign": ("J05", "deny.obligation.unsupported"),
    "23 abroad, without a consent that says so": ("I02", "deny.crossborder.inadequate"),
    "24 abroad, with one": ("I01", "allow.consent"),
    "27 the consent store is down, planned care": ("K01", "deny.store.unavailable"),
    "28 the consent store is down, emergency": ("K02", "allow.emergency.default"),
    "32 counter-intelligence": ("G14", "allow.statutory"),
    "33 to the national passport": ("G19", "allow.statutory"),
}
"""Those that a scenario tells already; under the pack's own switches."""

COUNTED: dict[str, Callable[[], object]] = {
    "15 change is due after one working day": lambda: (
        WorkingDays().due(date(2026, 3, 20), TERMS["rectification"]) == date(2026, 3, 26)
    ),
    "29 information asked for on a Friday before Nauryz": lambda: (
        WorkingDays().due(date(2026, 3, 20), TERMS["information"]) == date(2026, 3, 30)
    ),
    "30 a refusal for being too busy": lambda: (
        failing_move(INFORMATION, "refuse", {"ground": "too busy", "reasons": "there are many requests"})
        == (Failing("/ground", "R19", "not_allowed"),)
    ),
    "35 a number of the second pass": lambda: is_identification_number("880808100203"),
}


@pytest.mark.parametrize("key", DECIDED)
def test_a_situation_is_decided_as_the_order_asks(key: str, policy_set: PolicySet, world: World, variant: Any) -> None:
    """By the shipped rules, over the synthetic world."""
    ask, expect, more = DECIDED[key]

    result = run_case(policy_set, world, key, PolicyCase(key, ask, expect, **more), variant)

    assert result.decision.reason == expect


@pytest.mark.parametrize("key", AS_SCENARIOS)
def test_a_situation_is_decided_as_its_scenario(key: str, policy_set: PolicySet) -> None:
    """A situation is decided as its scenario expects, with no switch turned."""
    scenario, expect = AS_SCENARIOS[key]

    assert decide_scenario(FILE, SCENARIOS[scenario], policy_set).reason == expect


@pytest.mark.parametrize("key", COUNTED)
def test_a_term_a_ground_a_number_is_as_the_law_has_it(key: str) -> None:
    """What no decision settles, and a rule of the law does."""
    assert COUNTED[key]()


def test_a_consent_with_an_image_of_an_identity_document_is_invalid(world: World, policy_set: PolicySet) -> None:
    """21: Code 60(1-1); without the image it is not."""
    consent = world.consents["c-dana-h1"]
    spoilt = msgspec.structs.replace(consent, id_document_image=True)

    assert formal_defect(spoilt, policy_set.vocabulary.switches) == "id_document_image"
    assert formal_defect(consent, policy_set.vocabulary.switches) is None


def test_a_consent_withdrawn_at_ten_is_not_read_under_at_one_past_ten(
    policy_set: PolicySet, world: World, variant: Any
) -> None:
    """31: access ends at once, to the microsecond; the fifteen working days are for the processing."""
    withdrawn = msgspec.structs.replace(world.consents["c-dana-h1"], revoked_at="2026-11-24T10:00:00+05:00")
    changed = msgspec.structs.replace(world, consents=world.consents | {"c-dana-h1": withdrawn})
    ask, minute = "dr_aida read o1 TREAT", datetime.fromisoformat
    before = PolicyCase("b", ask, "allow.consent", at=minute("2026-11-24T09:59:59.999999+05:00"))
    after = PolicyCase(
        "a", ask, "deny.consent.revoked", at=minute("2026-11-24T10:00:00+05:00"), without=("c-dana-family",)
    )

    assert run_case(policy_set, changed, "31", before, variant).decision.reason == before.expect
    assert run_case(policy_set, changed, "31", after, variant).decision.reason == after.expect


@pytest.mark.parametrize(
    ("received", "days", "due"),
    [
        ("2026-03-20", 1, "2026-03-26"), ("2026-03-20", 3, "2026-03-30"), ("2026-05-06", 1, "2026-05-08"),
        ("2026-05-06", 3, "2026-05-13"), ("2025-01-02", 1, "2025-01-05"), ("2025-01-02", 3, "2025-01-08"),
        ("2024-05-02", 1, "2024-05-03"), ("2024-05-02", 3, "2024-05-06"), ("2026-10-22", 1, "2026-10-23"),
        ("2026-10-22", 3, "2026-10-28"), ("2027-03-11", 1, "2027-03-12"), ("2027-03-11", 3, "2027-03-17"),
    ],
)  # fmt: skip
def test_working_days_are_those_of_the_national_calendar(received: str, days: int, due: str) -> None:
    """Moved holidays, substituted days and the new Constitution Day among them."""
    assert WorkingDays().due(date.fromisoformat(received), days) == date.fromisoformat(due)


def test_the_operators_reviewed_days_win_over_the_library() -> None:
    """A day off that the Government added moves the term; a working Saturday shortens it."""
    friday, monday = date(2026, 11, 20), date(2026, 11, 23)

    assert WorkingDays(extra_off=frozenset({monday})).due(friday, 1) == date(2026, 11, 24)
    assert WorkingDays(extra_work=frozenset({date(2026, 11, 21)})).due(friday, 1) == date(2026, 11, 21)
    assert WorkingDays().due(friday, 1) == monday
