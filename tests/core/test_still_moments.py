"""A decision over an uncertain present is that of all its moments, also where only one of them is looked at."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core.boundaries import moments, stands_still
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import EmergencyGrant, Facts, Organisation
from ruqsat.core.instant import HOUR, Now, at, local_midnight
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import Action, EvaluationRequest, RequestContext, Resource, ResourceProperties, Subject
from tests.core.strategies import NOW, Maker, worlds

ALL = frozenset({"redact", "deidentify", "pseudonymize", "require_eds", "suppress_total"})
MIDNIGHT = local_midnight(NOW, 5)
BEGIN = st.sampled_from(
    (NOW - HOUR - 1, NOW - HOUR, NOW - 2, NOW - 1, NOW, NOW + 1, NOW + HOUR, MIDNIGHT - 1, MIDNIGHT)
)
"""The situations have documents that begin and end at most of these."""
LASTS = st.sampled_from((1, 1, 2, 3, HOUR))


def at_each_moment(policy_set: PolicySet, request: Any, facts: Facts, now: Now) -> Decision:
    """Decide at the ends, the boundaries and the moments before them, and put the answers together."""
    found = [
        evaluate(policy_set, request, facts, at(moment), ALL)
        for moment in moments(facts, now, policy_set.vocabulary.switches)
    ]
    denied = next((decision for decision in found if not decision.allowed), None)
    if denied is not None:
        return denied
    duties, untold = ({each: None for one in found for each in getattr(one, name)} for name in ("duties", "untold"))
    return msgspec.structs.replace(found[-1], duties=tuple(duties), untold=tuple(untold))


@settings(max_examples=400, deadline=None)
@given(worlds, BEGIN, LASTS)
def test_one_moment_stands_for_all_where_nothing_turns(
    policy_set: PolicySet, situation: Any, begin: int, lasts: int
) -> None:
    """Answer, reason, rule and duties are those of every moment, just around every beginning and end."""
    request, facts, _ = situation
    now = Now(begin, begin + lasts)

    assert evaluate(policy_set, request, facts, now, ALL) == at_each_moment(policy_set, request, facts, now)


def test_the_moments_are_worth_asking(policy_set: PolicySet) -> None:
    """Many of those situations stand still and many do not; in some the answer turns between two neighbouring moments."""
    turned = still = 0
    for seed in range(1500):
        request, facts, _ = Maker(seed).situation()
        now = Now(NOW - 1, NOW)
        ends = [evaluate(policy_set, request, facts, at(moment), ALL) for moment in (now.lo, now.hi)]
        turned += ends[0] != ends[1]
        still += stands_still(facts, now, policy_set.vocabulary.switches)

    assert turned > 15
    assert 150 < still < 1450


@pytest.mark.parametrize(("end", "still"), [(0, False), (-1, True)])
def test_midnight_is_a_turn_of_its_own(policy_set: PolicySet, end: int, still: bool) -> None:
    """Break-glass sessions are counted by the local day, of which no fact says when it ends."""
    facts, now = Maker(1).situation()[1], Now(MIDNIGHT - 2, MIDNIGHT + end)
    nothing = msgspec.structs.replace(facts, patient=None)

    assert stands_still(nothing, now, policy_set.vocabulary.switches) is still


def test_the_last_session_of_a_day_opens_nothing_at_its_uncertain_end(policy_set: PolicySet) -> None:
    """Ten of yesterday and one more shut the glass before midnight: while it may be either side, it stays shut."""
    who = msgspec.structs.replace(
        Maker(1).situation()[1].subject, id="ed", active=True, roles=("emergency_clinician",), org="h1",
        organisation=Organisation("provider_medical", undertaking=True), btg_suspended=False,
        btg_opened=tuple(MIDNIGHT - HOUR + n for n in range(11)), sessions=("b",),
    )  # fmt: skip
    patient = msgspec.structs.replace(
        Maker(1).situation()[1].patient, id="p1", deceased_at=None, consents=(), delegations=(), episodes=(),
        representations=(), records=(), relationships=(), requests=(),
        grants=(EmergencyGrant("b", "ed", MIDNIGHT - HOUR, MIDNIGHT + HOUR, "unconscious", 40, mfa=True),),
    )  # fmt: skip
    request = EvaluationRequest(
        Subject("user", "ed"), Action("read"),
        Resource("Record", "r", ResourceProperties(patient="p1", data_class="labs", labels=())),
        RequestContext(purpose="BTG", btg_session="b"),
    )  # fmt: skip
    facts = Facts(who, patient, Maker(1).situation()[1].position)

    def reason(lo: int, hi: int) -> str:
        return evaluate(policy_set, request, facts, Now(lo, hi), ALL).reason

    before, across, after = (
        reason(MIDNIGHT - 2, MIDNIGHT - 1),
        reason(MIDNIGHT - 1, MIDNIGHT),
        reason(MIDNIGHT, MIDNIGHT + 1),
    )
    assert (before, across) == ("deny.btg.rate_limited",) * 2
    assert after != before


@pytest.mark.parametrize(
    ("file", "text", "instead", "reads"),
    [
        ("model.conf", "eval(p.when)", "eval(p.when)", False),
        ("model.conf", "eval(p.when)", "eval(p.when) && in_force(r.ctx.now, '1', '-', 'permit')", True),
        ("model.conf", "is_same(r4.sub.id, p4.subject)",
         "is_same(r4.sub.id, p4.subject) && in_force(r4.ctx.now, '1', p4.until, 'permit')", True),
        ("policies/public.csv", "*, True, allow", "*, in_force(r.ctx.now, '1', '-', 'permit'), allow", True),
    ],
)  # fmt: skip
def test_a_pack_that_reads_the_clock_itself_is_asked_at_every_moment(
    pack_texts: dict[str, bytes], file: str, text: str, instead: str, reads: bool
) -> None:
    """A term that stands in the rules is no boundary of the facts."""
    assert text in pack_texts[file].decode()
    changed = dict(pack_texts) | {file: pack_texts[file].decode().replace(text, instead).encode()}

    policy_set, findings = load_pack(changed)

    assert policy_set is not None, findings[:2]
    assert policy_set.reads_present is reads


@pytest.mark.parametrize("term", [f"'-', '{NOW}'", f"'{NOW}', '-'"])
def test_a_term_in_a_rule_holds_over_the_whole_interval(pack_texts: dict[str, bytes], term: str) -> None:
    """What a rule shuts at the next moment, or opens only then, is shut while it may be either."""
    rule = f"*, in_force(r.ctx.now, {term}, 'permit'), allow"
    changed = dict(pack_texts) | {
        "policies/public.csv": pack_texts["policies/public.csv"].decode().replace("*, True, allow", rule).encode()
    }
    policy_set, _ = load_pack(changed)
    assert policy_set is not None
    _, facts, _ = Maker(1).situation()
    who = msgspec.structs.replace(facts.subject, id="s", active=True)
    resource = Resource("Record", "r", ResourceProperties(data_class="public"))
    request = EvaluationRequest(Subject("user", "s"), Action("read"), resource, RequestContext(purpose="TREAT"))
    facts = Facts(who, None, facts.position)

    def allowed(lo: int, hi: int) -> bool:
        return evaluate(policy_set, request, facts, Now(lo, hi), ALL).allowed

    assert sorted([allowed(NOW - 2, NOW - 1), allowed(NOW, NOW + 1)]) == [False, True]
    assert not allowed(NOW - 1, NOW)
