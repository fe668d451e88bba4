"""Who asks the decision point, and by which way."""

from math import inf

from msgspec import Struct

from ruqsat.core.instant import Instant
from ruqsat.core.request import EvaluationRequest
from ruqsat.service.entries import SignedBy


class Origin(Struct, frozen=True):
    """
    Who asks, and by which way.

    Attributes:
        listener: ``json``, ``control`` or the dialect of a proxy.
        explain: The enforcement point is registered to see exact reasons.
        capabilities: Blocking duties that it can carry out; a proxy can carry out none itself.
        traceparent: The caller's W3C trace context, for the journal.
        actors: Who acts for the subject by its token, the present one first; for the journal.
        point: Name of the registered enforcement point; empty where nobody is registered.
        issued_at: When the subject's token was issued, if a token says who asks.
        signature: The record's, if it came with one that was verified here.
        jti: The token's own id, for the journal: by it an entry is tied to what the issuer knows.
        good_until: Until when, by this machine's clock, that token is good, in seconds since 1970.
        recurs: The same question may come again as the same object, from the same origin.
    """

    listener: str
    explain: bool = False
    capabilities: frozenset[str] = frozenset()
    traceparent: str | None = None
    actors: tuple[str, ...] = ()
    point: str = ""
    issued_at: Instant | None = None
    signature: SignedBy | None = None
    jti: str | None = None
    good_until: float = inf
    recurs: bool = False


def capabilities_of(request: EvaluationRequest, origin: Origin) -> frozenset[str]:
    """Return what can be carried out: a request may only narrow what its enforcement point is registered for."""
    capabilities, context = origin.capabilities, request.context
    if context is None:
        return capabilities
    for said in (context.pep_capabilities, context.supported_obligations):
        if said is not None:
            capabilities = capabilities.intersection(said)
    return capabilities
