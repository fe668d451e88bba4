"""
Requests of several parts: bundles, histories, a patient's whole record.

Each part is decided by itself.  A reading gives what is permitted and has the rest
cut out; a writing, or whatever the caller calls atomic, is permitted whole or not
at all.  Parts that concern nobody (whoever ordered, the place, the medicine) pass beside
what is permitted of the patient's; by themselves they are no answer about a patient.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ruqsat.core.decision import Decision, deny
from ruqsat.core.facts import Facts
from ruqsat.core.request import EvaluationRequest, ResourceProperties
from ruqsat.core.validity import IMPERSONAL

MAX_PARTS = 1000
ATOMIC = frozenset({"create", "update", "delete", "block", "deidentify", "consent_manage", "delegate"})
"""Actions that are never done in part."""

PARTIAL = frozenset({"redact", "suppress_total"})
"""What an enforcement point must be able to do, to be given a part."""

NOBODYS = "public"
"""The basis of what concerns nobody: no ground for what concerns somebody."""

DecideOne = Callable[[EvaluationRequest, Facts], Decision]

_UNREADABLE = deny("deny.unmapped.parts")


def decide_parts(request: EvaluationRequest, facts: Facts, capabilities: frozenset[str], decide: DecideOne) -> Decision:
    """
    Decide each part and combine.

    Args:
        request: Its resource has parts; each names what differs from the whole.
        facts: Of the subject, the request's patient and the others that parts name; a part about somebody
            whose facts are not there is decided without facts.
        capabilities: Blocking duties that the enforcement point can carry out.
        decide: Decides a request of one part.
    """
    properties = request.resource.properties
    parts = properties.parts if properties is not None else None
    if properties is None or not parts or len(parts) > MAX_PARTS:
        return _UNREADABLE
    decided: list[tuple[str, Decision]] = []
    said, kind = _said_of_all(properties), type(properties)
    for part in parts:
        one = _request_of(request, said, part, kind)
        if one is None:
            return _UNREADABLE
        decided.append((one.resource.id, decide(one, _facts_of(one, properties, facts))))
    refused = [(name, decision) for name, decision in decided if not decision.allowed]
    permitted = [decision for _, decision in decided if decision.allowed]
    personal = [decision for decision in permitted if decision.basis != NOBODYS]
    if (refused and not personal) or (refused and (properties.atomic or request.action.name in ATOMIC)):
        return refused[0][1]
    duties = tuple(dict.fromkeys(duty for decision in permitted for duty in decision.duties))
    untold = tuple(dict.fromkeys(duty for decision in permitted for duty in decision.untold))
    first = (personal or permitted)[0]
    if any(decision.basis != first.basis for decision in personal):
        # Exactly one basis a permit: the caller asks for the parts apart.
        return deny("deny.unmapped.parts", first.rule, first.law)
    law = tuple(dict.fromkeys(key for decision in permitted for key in decision.law))
    applied = tuple(sorted({document for decision in permitted for document in decision.applied}))
    if not refused:
        return Decision(True, first.reason, first.basis, first.rule, law, duties, applied, untold)
    if not capabilities >= PARTIAL:
        return Decision(False, "deny.obligation.unsupported", None, first.rule, law, (), applied)
    cuts = tuple(f"redact:{name}" for name, _ in refused)
    duties = (*duties, *cuts, "suppress_total")
    return Decision(True, "allow.partial", first.basis, first.rule, law, duties, applied, untold)


def _said_of_all(whole: ResourceProperties) -> dict[str, Any]:
    """Return what the whole says of each part: all but labels, unless it was found to bear none."""
    said: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(whole, parts=None, atomic=False))
    return said | {"labels": () if whole.labels == () else None}


def _request_of(
    request: EvaluationRequest, said: Mapping[str, Any], part: Mapping[str, Any], whole: type[ResourceProperties]
) -> EvaluationRequest | None:
    """Return the request for one part: what it does not say of itself, the whole says."""
    name = part.get("id")
    if not isinstance(name, str) or not name:
        return None
    if isinstance(part.get("class"), str) and part["class"] in IMPERSONAL:
        # Of the whole's patient only if the part says so, and then it is refused.
        said = {**said, "patient": None}
    try:
        properties = msgspec.convert({**said, **part}, whole)
    except msgspec.ValidationError:
        return None
    if properties.parts is not None:
        return None
    resource = msgspec.structs.replace(request.resource, id=name, properties=properties)
    return msgspec.structs.replace(request, resource=resource)


def _facts_of(one: EvaluationRequest, whole: ResourceProperties, facts: Facts) -> Facts:
    properties = one.resource.properties
    named = None if properties is None else properties.patient
    if named == whole.patient:
        return facts
    whom = next((patient for patient in facts.others if patient.id == named), None)
    return msgspec.structs.replace(facts, patient=whom)
