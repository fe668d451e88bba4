"""Facts of others than the subject and the patient: whose a request needs, and how they join the rest."""

from collections.abc import Collection, Iterator

import msgspec

from ruqsat.core.facts import Facts, entry_id
from ruqsat.core.request import EvaluationRequest

Reading = tuple[str | None, str | None, Facts]
"""Facts read beside those of the subject and the patient, and for whom."""

NOTHING: tuple[Reading, ...] = ()

MAX_BESIDE = 100
"""How many other patients' facts are read for the parts of one request; what is about further ones is denied."""


def asks_for_more(request: EvaluationRequest) -> bool:
    """Tell whether facts of somebody beside the subject and the patient, or a certain freshness, are asked for."""
    context, properties = request.context, request.resource.properties
    return (properties is not None and properties.parts is not None) or (
        context is not None and (context.recipient is not None or context.consistency_token is not None)
    )


def named_beside(request: EvaluationRequest, types: Collection[str] = ()) -> Iterator[tuple[str | None, str | None]]:
    """
    Yield whose facts the request needs beside its own.

    They are the recipient's, those of patients that parts name, and the directory's entry
    of the resource if it is of one of *types*, which concern nobody.
    """
    if request.context is not None and request.context.recipient is not None:
        yield request.context.recipient, None
    if request.resource.type in types:
        yield entry_id(request.resource.type, request.resource.id), None
    for patient in patients_beside(request):
        yield None, patient


def patients_beside(request: EvaluationRequest) -> tuple[str, ...]:
    """Return the other patients that parts of the request name, as far as their facts are read."""
    properties = request.resource.properties
    if properties is None or properties.parts is None:
        return ()
    named = dict.fromkeys(part["patient"] for part in properties.parts if isinstance(part.get("patient"), str))
    named.pop(properties.patient, None)
    return tuple(named)[:MAX_BESIDE]


def joined(request: EvaluationRequest, facts: Facts, beside: tuple[Reading, ...]) -> Facts:
    """Put what was read beside into the facts; each reading is tested for itself before a permit is sent."""
    if not beside:
        return facts
    entries = {who: known.subject for who, _, known in beside if who is not None}
    recipient = None if request.context is None else entries.get(request.context.recipient or "")
    resource = entries.get(entry_id(request.resource.type, request.resource.id))
    others = tuple([known.patient for _, _, known in beside if known.patient is not None])
    return msgspec.structs.replace(facts, others=others, recipient=recipient, resource=resource)
