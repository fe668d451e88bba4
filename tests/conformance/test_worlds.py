"""
The twelve properties in worlds that live: people sign, refuse, withdraw, delegate, fall ill, grow up and die.

The rules of what may happen are in ``life``, the properties in ``twelve``.
"""

import os
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from ruqsat.core import case, consent, delegation, emergency, representation
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.instant import HOUR
from ruqsat.core.policy_set import PolicySet
from tests.conformance.life import PLAIN, Life
from tests.conformance.living_world import ADULT, BEGIN, DAY, Question, Town, beginning, document, with_record
from tests.conformance.twelve import check_all

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
ENOUGH = settings(
    max_examples=60 if LONGER == 1 else 300 * LONGER, stateful_step_count=40, deadline=None, derandomize=False, print_blob=True,
    suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
)  # fmt: skip


def live(policy_set: PolicySet, how: settings, number: int | None = None) -> Counter[str]:
    """Let worlds live, from that seed if one is given; return what was met."""
    met: Counter[str] = Counter()

    def life() -> Life:
        return Life(policy_set, met)

    factory: Any = life if number is None else seed(number)(life)
    run_state_machine_as_test(factory, settings=how)
    return met


FEW = settings(ENOUGH, max_examples=45 if LONGER == 1 else 60, database=None, phases=[Phase.generate])
"""Without shrinking: that something is found is enough."""


@pytest.mark.slow
@pytest.mark.timeout(300 * LONGER)
def test_the_twelve_properties_hold_in_living_worlds(policy_set: PolicySet) -> None:
    """And every answer is the reference's: allowed or not, reason, basis and duties."""
    print(live(policy_set, ENOUGH))


@pytest.mark.slow
def test_the_worlds_are_worth_living_in(policy_set: PolicySet) -> None:
    """From one seed: permits on every ground that the town has, and most reasons; else the properties say little."""
    met = live(policy_set, FEW, 1)
    print(met)

    for basis in ("consent", "delegation", "emergency_default", "emergency_override", "self", "legal_rep",
                  "operator_duty", "care_consent", "kz273_4_1", "kz273_4_2"):  # fmt: skip
        assert met[f"basis {basis}"] > 0, basis
    assert sum(not reason.startswith("basis") for reason in met) > 60


def spoilt(honest: Any, wrong: Decision, when: Callable[..., bool]) -> Any:
    """Return a decider that answers wrongly in some situations."""
    return lambda request, facts, now: wrong if when(request, facts, now.lo) else honest(request, facts, now)


BY_CONSENT = Decision(True, "allow.consent", "consent", "r", ("R1",), (), ())
OVERRIDE = Decision(True, "allow.emergency.override", "emergency_override", "r", ("R1",), (), ())
TURN = count()
LIES: dict[str, tuple[str, Decision, Callable[..., bool]]] = {
    "P1": ("read", BY_CONSENT, lambda _r, f, _t: any(d.id == "zz" for d in f.patient.consents)),
    "P2": ("read", BY_CONSENT, lambda _r, f, _t: f.patient.consents[:1] and f.patient.consents[0].id == "c2"),
    "P3": ("read", BY_CONSENT, lambda _r, f, _t: not f.patient.consents),
    "P4": ("read", BY_CONSENT, lambda _r, _f, t: t > BEGIN),
    "P5": ("read", BY_CONSENT, lambda _r, f, _t: f.patient.id != ADULT),
    "P6": ("read", BY_CONSENT, lambda _r, f, _t: any(d.revoked_at for d in f.patient.consents)),
    "P7": ("read", BY_CONSENT, lambda _r, f, _t: not f.subject.active),
    "P8": ("read", BY_CONSENT, lambda r, _f, _t: "HIV" in r.resource.properties.labels),
    "P9": ("create", OVERRIDE, lambda *_: True),
    "P10": ("read", BY_CONSENT, lambda r, _f, _t: not r.context.purpose),
    "P11": ("read", BY_CONSENT, lambda r, _f, _t: len(r.context.purpose) > 1),
    "P12": ("read", BY_CONSENT, lambda *_: next(TURN) % 2 == 1),
}


@pytest.mark.parametrize("number", LIES)
def test_a_decider_that_lies_fails_the_property_it_breaks(number: str, policy_set: PolicySet) -> None:
    """Planted: each property alone can be broken, and says so by its number; the honest decider breaks none."""
    action, wrong, when = LIES[number]
    world = beginning(None)
    for name, thread in (("c1", "h1"), ("c2", "own")):
        world = with_record(world, "consents", name, document(ADULT, thread, BEGIN, (-HOUR, DAY), PLAIN))
    asked = Question("dr_erlan", ("TREAT",), action, "labs", ADULT, None, (), False, None, None, True, "HIV", "ETREAT")
    situation = Town.of(world, policy_set.vocabulary.switches).situation(asked, BEGIN)
    everything = frozenset(policy_set.vocabulary.duties)

    def honest(*of: Any) -> Decision:
        return evaluate(policy_set, *of, everything)

    check_all(honest, situation, "HIV", "ETREAT", BEGIN + 9 * DAY)
    with pytest.raises(AssertionError, match=f"{number}:"):
        check_all(spoilt(honest, wrong, when), situation, "HIV", "ETREAT", BEGIN + 9 * DAY)


BUGS: dict[str, list[tuple[Any, str, Any]]] = {
    "a withdrawal does not count": [(consent, "_revoked", lambda *_: False)],
    "a delegation outlives its consent": [(delegation, "_document_of", lambda root, *_: (root.consent, ""))],
    "a session has no end": [
        (emergency, "session_row", lambda grant, switches: emergency.SessionRow(
            grant.id, grant.subject, grant.start, 1 << 60, switches.btg.actions, grant.categories)),
    ],
    "a newer document does not supersede": [
        (module, "governing", lambda patient, now: patient.consents) for module in (consent, delegation)
    ],
    "an episode never closes": [
        (case, "open_emergency", lambda patient, org, now: any(e.org == org for e in patient.episodes)),
    ],
    "a birthday changes nothing": [(representation, "_is_of_age", lambda *_: False)],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_does_not_survive_the_worlds(
    bug: str, policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every planted bug makes some world fail."""
    for module, name, wrong in BUGS[bug]:
        monkeypatch.setattr(module, name, wrong)

    with pytest.raises(AssertionError):
        live(policy_set, FEW, 1)
