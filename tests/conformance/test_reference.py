"""The product and a second decider, written from the design's text alone, agree on random decisions."""

import os
import random
from collections import Counter
from itertools import islice

import pytest

from ruqsat.core import consent
from ruqsat.core.conformance import situation_of
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations
from tests.conformance.reference import decide
from tests.conformance.test_scenarios import EVERY

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
DECISIONS = 20_000 if LONGER == 1 else 50_000 * LONGER
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(1_000_000))))
PLAIN = [s.id for _, s in EVERY.values() if not s.policy and "parts" not in s.request
         and "smart_scopes" not in s.request.get("context", {}) and s.id != "J05"]  # fmt: skip
"""Scenarios under the default switches, of one part, for a caller that can do everything."""


def compared(policy_set: PolicySet, seed: int, count: int) -> Counter[str]:
    """Compare so many random decisions; return the reasons met, and how many differ."""
    everything = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)
    met: Counter[str] = Counter()
    for each in islice(situations(policy_set, seed), count):
        decision = evaluate(policy_set, *each, everything)
        ours = (decision.allowed, decision.reason, decision.basis, frozenset(decision.duties))
        met[decision.reason] += 1
        if ours != decide(each[0], each[1], each[2].lo):
            met["differs"] += 1
            if met["differs"] == 1:
                print(f"seed {seed}: {ours}\n  {decide(each[0], each[1], each[2].lo)}\n  {each}")
    return met


@pytest.mark.parametrize("key", PLAIN)
def test_the_reference_itself_meets_the_scenarios(key: str, policy_set: PolicySet) -> None:
    """Otherwise it would be no reference."""
    file, scenario = EVERY[key]
    expect = scenario.expect
    request, facts, now = situation_of(file, scenario, policy_set.vocabulary.switches)

    allowed, reason, basis, duties = decide(request, facts, now.lo)

    assert ("permit" if allowed else "deny", reason, basis) == (expect.decision, expect.reason, expect.basis)
    assert duties == set(expect.obligations)


@pytest.mark.slow
def test_random_decisions_are_those_of_the_reference(policy_set: PolicySet) -> None:
    """Answer, reason, basis and duties; the seed is printed; every kind of permit is among them."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    met = compared(policy_set, SEED, DECISIONS)
    print(met)

    assert met["differs"] == 0
    assert len(met) > 60
    for reason in ("consent", "emergency.default", "statutory", "deidentified", "self", "care_consent", "role_admin"):
        assert met[f"allow.{reason}"] > 0, reason


@pytest.mark.slow
def test_many_documents_are_weighed_like_few(policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that name others are set aside; where none is, the answers are the same."""
    monkeypatch.setattr(consent, "_names_others", lambda root, sub: False)

    assert compared(policy_set, SEED, 5000)["differs"] == 0
