"""What a client's request asks: the question that the decision point is put, read by the routes of the pack."""

from msgspec import Struct

from ruqsat.core.fhir.meaning import Meaning
from ruqsat.core.fhir.reading import READ_HEADERS, read_target
from ruqsat.core.fhir.records import lookups_of
from ruqsat.core.record_signature import WRITES, is_named_by, names_target
from ruqsat.core.request import Action, EvaluationRequest, RequestContext, Resource
from ruqsat.core.routes import Mapped, RouteTable, mapped_of
from ruqsat.core.target import TargetRejected, parse_target
from ruqsat.web.claims import Identity
from ruqsat.web.forward_auth.shared import Headers, Original, Refused
from ruqsat.web.forward_auth.signed import PROVENANCE, Signed

SESSION = b"x-ruqsat-session"
MAX_SESSION = 256
_MAX_TRACEPARENT = 64


class OfRecord(Struct, frozen=True):
    """A request for one record under a FHIR base, of which its server must say whose it is."""

    base: str
    meaning: Meaning

    @property
    def action(self) -> str:
        """What is asked for."""
        return self.meaning.action or ""


def meaning_of(
    asked: Original, routes: RouteTable, headers: Headers, signed: Signed | None, body: bytes | None
) -> Mapped | OfRecord:
    """Return what is asked for, under a route or at a FHIR server; raises Refused for what means nothing."""
    try:
        target = parse_target(asked.target, None)
    except TargetRejected:
        raise Refused("bad_target") from None
    meant: Mapped | OfRecord | None
    reason = "unmapped.route"
    server = None if routes.fhir is None else routes.fhir.server_of(target.segments)
    if server is not None and routes.fhir is not None:
        # No proxy can filter an answer, nor what it shows no body of be read: what needs either is refused.
        meaning = read_target(asked.method, target, _fhir_headers(headers, signed), body, routes.fhir)
        by_record = bool(lookups_of(meaning))
        meant = OfRecord(server.base, meaning) if by_record else mapped_of(meaning, by_body=body is not None)
        reason = f"fhir.{meaning.reason or 'answer_unfiltered'}"
        is_named = is_named_by(meaning)
    else:
        meant = mapped = routes.match(asked.method, target.segments, target.query)
        is_named = mapped is not None and signed is not None and names_target(signed.body, mapped)
    if meant is None:
        raise Refused(reason)
    if signed is not None and meant.action in WRITES and not is_named:
        # Signed once, it would be as good a record of another patient, or another record of this one.
        raise Refused("signature.target_unnamed")
    return meant


def _fhir_headers(headers: Headers, signed: Signed | None) -> list[tuple[str, str]]:
    """
    Return the client's headers that change what a FHIR request means, as far as the proxy hands them on.

    A Provenance that brought the signature was read: it changes no more than who has signed.
    """
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.replace(b"_", b"-").decode("latin-1") in READ_HEADERS and not (signed and name == PROVENANCE)
    ]


def session_in(headers: Headers) -> str | None:
    """Return the id of the break-glass session that a client means; sent twice, it means nothing."""
    found = [value for name, value in headers if name == SESSION]
    if not found:
        return None
    text = found[0].decode("latin-1")
    if len(found) > 1 or not 0 < len(text) <= MAX_SESSION or not text.isascii() or not text.isprintable():
        raise Refused("bad_pep_request")
    return text


def question_of(who: Identity, mapped: Mapped, action: str, session: str | None) -> EvaluationRequest:
    """Return what the decision point is asked: by a token, a route and a session that is named, and nothing else."""
    return EvaluationRequest(
        who.subject,
        Action(action),
        Resource(mapped.resource_type, mapped.resource_id, mapped.properties()),
        RequestContext(
            purpose=who.purpose if who.purpose is not None else mapped.purpose,
            smart_scopes=who.smart_scopes,
            launch_patient=who.launch_patient,
            btg_session=session,
        ),
    )


def traceparent_in(headers: Headers) -> str | None:
    """Return the trace that a client names, the first one, as far as the journal keeps it."""
    found = next((value for name, value in headers if name == b"traceparent"), None)
    return None if found is None else found[:_MAX_TRACEPARENT].decode("latin-1")
