"""Runs the decision scenarios: fixtures become facts, each scenario becomes a request to the core."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import at, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import parse_world, project_world

HERE = Path(__file__).parent
SCENARIOS: dict[str, Any] = yaml.load((HERE / "scenarios.yaml").read_text(), Loader=yaml.CSafeLoader)
BY_ID = {scenario["id"]: scenario for scenario in SCENARIOS["scenarios"]}

FROM_CALLER = (
    "destination_country", "art16_3", "relink", "btg_session", "pep_capabilities", "smart_scopes", "legal_request",
    "inspection", "recipient", "suspected_crime", "mental_deviation", "sexual_violence_inclination", "subject_demand",
    "defer_notice", "cohort_size",
)  # fmt: skip
"""What a scenario's context holds that a caller may say; the rest becomes facts."""


def decide(scenario: dict[str, Any], policy_set: PolicySet) -> Decision:
    """Decide one scenario."""
    asked, switches = scenario["request"], policy_set.vocabulary.switches
    context = {**SCENARIOS["defaults"]["context"], **asked.get("context", {})}
    facts = _facts(scenario, asked, context, switches)
    capabilities = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)
    if context.get("pep_capabilities") is not None:
        capabilities &= frozenset(context["pep_capabilities"])
    now = at(parse_instant(asked.get("now", SCENARIOS["defaults"]["now"])))
    return evaluate(policy_set, _request(asked, context), facts, now, capabilities)


def _request(asked: dict[str, Any], context: dict[str, Any]) -> EvaluationRequest:
    who = SCENARIOS["fixtures"]["subjects"].get(asked["subject"], {})
    properties = {"labels": [], **asked["resource"]}
    if "parts" in asked:
        properties["parts"] = asked["parts"]
    if "atomic" in asked:
        properties["atomic"] = asked["atomic"]
    wire = {
        "subject": {
            "type": "user",
            "id": asked["subject"],
            "properties": {k: who[k] for k in ("roles", "org") if k in who},
        },
        "action": {"name": asked["action"]},
        "resource": {
            "type": properties.pop("type", "Record"),
            "id": properties.pop("id", "record"),
            "properties": properties,
        },
        "context": {"purpose": asked["purpose"]} | {k: v for k, v in context.items() if k in FROM_CALLER},
    }
    return msgspec.json.decode(msgspec.json.encode(wire), type=EvaluationRequest)


def _facts(scenario: dict[str, Any], asked: dict[str, Any], context: dict[str, Any], switches: Switches) -> Facts:
    fixtures, given = SCENARIOS["fixtures"], scenario.get("given", {})
    subject, patient = asked["subject"], asked["resource"].get("patient")
    world = {name: {key: fixtures[name][key] for key in given.get(name, [])}
             for name in ("consents", "delegations", "reps", "btg")}  # fmt: skip
    world |= {"subjects": fixtures["subjects"], "patients": fixtures["patients"]}
    org = fixtures["subjects"].get(subject, {}).get("org")
    if context.get("emergency") and patient and org:
        world["episodes"] = {"episode": {"patient": patient, "org": org, "form_of_care": "emergency",
                                         "opened_at": "2020-01-01T00:00:00Z"}}  # fmt: skip
    if (context.get("own_episode") or context.get("care_consent")) and patient and org:
        own = {"patient": patient, "org": org, "form_of_care": "planned", "opened_at": "2020-01-01T00:00:00Z",
               "care_consent": bool(context.get("care_consent"))}  # fmt: skip
        world["episodes"] = {**world.get("episodes", {}), "own": own}
    if context.get("relationship", "none") != "none" and patient:
        world["relationships"] = {"tie": {"patient": patient, "kind": context["relationship"], "subject": subject}}
    subjects, patients = project_world(parse_world(world), switches)
    who = next((s for s in subjects if s.id == subject), None)
    if who is not None and "btg_today" in context:
        who = msgspec.structs.replace(who, btg_today=context["btg_today"])
    if who is not None and context.get("supervised_by"):
        who = msgspec.structs.replace(who, supervised_by=context["supervised_by"])
    whom = next((p for p in patients if p.id == patient), None)
    if whom is not None and context.get("capacity") == "unable":
        whom = msgspec.structs.replace(whom, unable=True)
    return Facts(who, whom, Position("scenario", 0), not given.get("store_down", False))
