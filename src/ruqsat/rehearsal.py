"""A process that tests play with: whoever reaches the JSON listener sets facts, time and switches."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ruqsat.core.evaluate import evaluate
from ruqsat.core.pack import read_parts, variants_of
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import PolicyError
from ruqsat.service.administration_point import AdministrationPoint, InForce
from ruqsat.service.clock import SystemClock
from ruqsat.service.decision_point import Decide, DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.web.authzen import AuthZen
from ruqsat.web.enforcement_points import Door

if TYPE_CHECKING:
    from ruqsat.web.fixtures import Decider, FixtureLoader, Stage

TEST_FIXTURES = "test fixtures: answers are not about real people"


class Rehearsal(Struct, frozen=True):
    """
    The process is a test's: whoever reaches the JSON listener sets facts, time and switches.

    ``oracle``: stock pycasbin decides (slow, the same answers).
    """

    oracle: bool = False


def build_stage(clock: SystemClock) -> "Stage":
    """Return the stage that fixtures set: a clock, and what decides; it begins with the machine's clock."""
    from ruqsat.web.fixtures import Stage  # noqa: PLC0415 - not in a process that serves real people

    return Stage(clock, evaluate)


def build_json_for_tests(
    decision_point: DecisionPoint, stage: "Stage", information: InformationPoint, freshness: Freshness,
    administration: AdministrationPoint, rehearsal: Rehearsal,
) -> "FixtureLoader":  # fmt: skip
    """Return the JSON listener's application for tests: it explains, can carry out every duty, and loads fixtures."""
    from ruqsat.web.fixtures import FixtureLoader  # noqa: PLC0415

    duties = decision_point.policy_set.vocabulary.duties
    everything = frozenset(name for name, duty in duties.items() if duty.blocking)
    decider = _deciders(administration, rehearsal)
    stage.set(decider({}).decide, None, store_down=False)
    authzen = AuthZen(decision_point, Door.opened(explain=True, capabilities=tuple(everything)))
    return FixtureLoader(authzen, stage, information, decider, freshness.issue_token)


def _deciders(administration: AdministrationPoint, rehearsal: Rehearsal) -> Callable[[Mapping[str, Any]], "Decider"]:
    """Return a function that makes what decides under given switches, by the rules in force."""
    from ruqsat.web.fixtures import Decider  # noqa: PLC0415

    known: dict[tuple[str, str], Decider] = {}

    def decider(switches: Mapping[str, Any]) -> Decider:
        in_force = administration.in_force
        digest = in_force.pack.policy_set.digest
        if (digest, repr(switches)) not in known:
            policy_set = _variant(in_force, switches)
            decide = _oracle(in_force, switches) if rehearsal.oracle else _compiled(policy_set if switches else None)
            known[digest, repr(switches)] = Decider(digest, policy_set.vocabulary.switches, decide)
        return known[digest, repr(switches)]

    return decider


def _variant(in_force: InForce, switches: Mapping[str, Any]) -> PolicySet:
    if not switches:
        return in_force.pack.policy_set
    parts, _ = read_parts(in_force.texts)
    if parts is None:
        raise PolicyError("the pack in force cannot be read again")
    return variants_of(parts)(switches)


def _compiled(variant: PolicySet | None) -> Decide:
    """Return what decides by *variant*, or by the set in force at that time."""
    return evaluate if variant is None else lambda _, *asked: evaluate(variant, *asked)


def _oracle(in_force: InForce, switches: Mapping[str, Any]) -> Decide:
    """Return stock pycasbin as what decides."""
    from ruqsat.casbin.decider import OracleDecider  # noqa: PLC0415

    oracle = OracleDecider(in_force.texts, switches)
    return lambda _, *asked: oracle.decide(*asked)
