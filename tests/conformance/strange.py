"""
Situations that the reference decider does not know: an uncertain present, parts, scopes, fewer capabilities, switches.

Nothing is promised of them here; they show whether a change of the product changes any answer at all.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from random import Random
from typing import Any

import msgspec

from ruqsat.core.facts import Facts, PatientFacts
from ruqsat.core.instant import HOUR, Now
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.sampling import Situation, situations
from tests.conformance.questions import Asked, blocking

POSITIONS: tuple[Mapping[str, Any], ...] = (
    {},
    {
        "require_care_relationship": False, "delegation_max_depth": 3, "blocked_emergency_read": False,
        "adolescent_shield": {"enabled": True}, "btg": {"mfa": False, "daily_limit": 40, "max_hours": 1},
        "minor_self_from_age": 14, "very_restricted_roles": ["physician", "nurse"],
    },
    {
        "sensitive_requires_explicit": False, "rep_may_delegate": True, "rep_consent_grace_days": 20,
        "research_identifiable_with_consent": True, "patient_reported_write": True, "delegation_max_depth": 5,
        "btg": {"require_episode": False}, "btg_required_conf": ["R", "V"], "adequate_countries": ["KZ", "DE"],
        "adolescent_shield": {"enabled": True, "labels": []}, "rep_access_ends_at": 16,
    },
)  # fmt: skip
"""Every switch stands otherwise in one of them."""

SCOPES = ("patient/*.read", "user/*.cruds", "user/Record.rs", "system/*.s", "user/Record.cud", "user/Other.rs",
          "user/*.rs?category=laboratory", "openid", "patient/*.dus")  # fmt: skip
STEPS = (0, 0, 1, 2, HOUR, 900 * HOUR, 20 * 24 * HOUR)


def strange(policy_set: PolicySet, seed: int, count: int) -> Iterator[Asked]:
    """Yield so many; the same seed gives the same ones."""
    dice, source = Random(seed), situations(policy_set, seed)
    able = sorted(blocking(policy_set))
    for number in range(count):
        request, facts, now = next(source)
        if dice.random() < 0.3:
            request, facts = _of_parts(request, facts, [*islice(source, dice.randint(0, 3))], dice)
        if dice.random() < 0.2 and request.context is not None:
            scopes = tuple(dice.sample(SCOPES, dice.randint(0, 2)))
            request = msgspec.structs.replace(
                request, context=msgspec.structs.replace(request.context, smart_scopes=scopes)
            )
        if dice.random() < 0.5:
            now = Now(now.lo - dice.choice(STEPS), now.hi + dice.choice(STEPS))
        can = frozenset(able if dice.random() < 0.7 else dice.sample(able, dice.randint(0, len(able))))
        yield Asked(f"strange {number}", request, facts, now, can, dice.choice(POSITIONS))


def _of_parts(
    request: EvaluationRequest, facts: Facts, others: list[Situation], dice: Random
) -> tuple[EvaluationRequest, Facts]:
    """Make parts of the records of several situations, some of them another patient's."""
    whole, parts, patients = request.resource.properties, [], list[PatientFacts]()
    assert whole is not None
    for number, (other, known, _) in enumerate([(request, facts, None), *others]):
        said = msgspec.to_builtins(other.resource.properties)
        named = dice.sample(sorted(said), dice.randint(1, len(said)))
        part = {"id": dice.choice((f"o{number}", "o1"))} | {name: said[name] for name in named if name != "parts"}
        if known.patient is not None and dice.random() < 0.2:
            part["patient"] = f"p{number}"
            patients.append(msgspec.structs.replace(known.patient, id=f"p{number}"))
        parts.append(part)
    properties = msgspec.structs.replace(whole, parts=tuple(parts), atomic=dice.random() < 0.2)
    resource = msgspec.structs.replace(request.resource, properties=properties)
    return (
        msgspec.structs.replace(request, resource=resource),
        msgspec.structs.replace(facts, others=tuple(patients)),
    )
