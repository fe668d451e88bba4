"""The gate of the control API: a call is itself a decision, by the policy, kept in the journal."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from msgspec import Struct
from msgspec.structs import replace

from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    Resource,
    ResourceProperties,
)
from ruqsat.core.validity import IMPERSONAL
from ruqsat.service.answer import Answer
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.origin import Origin
from ruqsat.web.claims import Identity
from ruqsat.web.enforcement_points import POINT
from ruqsat.web.identity import TokenVerifier, Unauthenticated
from ruqsat.web.problems import TRY_LATER, Refusal

DESK = "PATADMIN"
"""The purpose that a registration desk states; a caller who states it alone acts for the organisation."""

DIRECTORY = "directory"
"""The class of staff, machines and organisations, which are no patient's."""

AUDIT = "audit"
"""The class of an organisation's whole journal, which is no single patient's."""

QUEUE = "queue"
"""The class of what waits for an office, which is no single patient's."""

ADMISSIONS = "ruqsat.admissions"
"""Key of the scope that holds what was let in, as far as somebody asks: a change is journaled by it."""

WRITTEN = "ruqsat.written"
"""Key of the scope that holds which records of which patients a call of many has written."""

_MAX_TRACEPARENT = 256


class Asked(Struct, frozen=True):
    """
    What is asked of the policy.

    Attributes:
        owner: What the action needs of a caller who acts on an own right.
        desk: What it needs of the registration desk.
        org: Organisation whose document it is, for the desk's own limits.
        type: What kind of thing it is, a type of FHIR where there is one.
        data_class: Its data class, by which the policy decides; of the directory and of a whole journal
            no patient is asked about.
        demanded: The patient or the representative demands it (order §24).
        tells_all: The answer tells of every visit and record, one that an adolescent consented to alone among them.
        alone: It is what the patient gave in person, or a list that may hold it: an adolescent's own affair.
    """

    owner: str
    desk: str
    patient: str | None
    id: str
    org: str | None = None
    type: str = "Consent"
    data_class: str = "consent"
    demanded: bool = False
    tells_all: bool = False
    alone: bool = False


class Admitted(Struct, frozen=True):
    """Who may, for which patient, on which ground, by which decision of the journal; what was asked and answered."""

    identity: Identity
    patient: str
    basis: str | None
    desk: bool
    entry: str = ""
    decided: tuple[EvaluationRequest, Answer] | None = None


class Admission(Struct, frozen=True):
    """A question of a call that the policy permitted: who was admitted, for which action, in which trace."""

    asked: Asked
    admitted: Admitted
    action: str
    traceparent: str | None


def note_written(request: Request, records: Mapping[str, tuple[str, ...]]) -> None:
    """Note, for the journal, which records of which patients a call about many has written."""
    request.scope[WRITTEN] = records


class Gate:
    """Asks the decision point with the caller's token; an answer that is no allow ends the call."""

    def __init__(self, decision_point: DecisionPoint, verifier: TokenVerifier | None) -> None:
        """Ask *decision_point*, for whom *verifier* knows; without a verifier nobody is let in."""
        self._decision_point, self._verifier = decision_point, verifier

    async def refused(self, request: Request, identity: Identity, reason: str) -> None:
        """Journal that a call was refused before the policy was asked."""
        await self._decision_point.record_refusal(reason, origin_of(request, identity), identity.subject.id)

    async def take_back(self, request: Request, admitted: Admitted, reason: str) -> None:
        """Journal that what the policy had let happen was refused: nobody is told of it as of a thing that was done."""
        if admitted.decided is not None:
            question, answer = admitted.decided
            await self._decision_point.take_back(question, origin_of(request, admitted.identity), answer, reason)
        # In place: whoever asked for the list holds it, whatever became of the scope meanwhile.
        admissions: list[Admission] = request.scope.get(ADMISSIONS, [])
        admissions[:] = [each for each in admissions if each.admitted is not admitted]

    async def identify(self, request: Request, header: bytes = b"authorization") -> Identity:
        """
        Return who calls, or whom another *header* names.

        Raises:
            Refusal: no token, or none that is accepted (401); tokens are not configured (403).
        """
        if self._verifier is None:
            raise Refusal(
                403, "tokens-not-configured", "writes need tokens: set RUQSAT_TOKEN_ISSUER and its companions"
            )
        try:
            return await self._verifier.identify([value for name, value in request.scope["headers"] if name == header])
        except Unauthenticated as error:
            await self._decision_point.record_refusal("unauthenticated", origin_of(request))
            raise Refusal(
                401, "unauthenticated", "a valid bearer token is needed",
                {"WWW-Authenticate": f'Bearer realm="ruqsat", error="{error.code}"'},
            ) from None  # fmt: skip

    async def admit(self, request: Request, identity: Identity, asked: Asked) -> Admitted:
        """
        Return on which ground the policy lets the caller do this.

        Raises:
            Refusal: it does not, or there is no such document (403, the same for both); it cannot be decided (503).
        """
        desk = is_desk(identity)
        properties = ResourceProperties(
            patient=asked.patient, data_class=asked.data_class, labels=None if asked.tells_all else (),
            author_org=asked.org, self_consented=asked.tells_all or asked.alone,
        )  # fmt: skip
        question = EvaluationRequest(
            identity.subject,
            Action(asked.desk if desk else asked.owner),
            Resource(asked.type, asked.id, properties),
            RequestContext(
                purpose=identity.purpose, smart_scopes=identity.smart_scopes,
                launch_patient=identity.launch_patient, subject_demand=asked.demanded or None,
            ),
        )  # fmt: skip
        origin = origin_of(request, identity)
        answer = await self._decision_point.decide(question, origin)
        if answer.reason == TRY_LATER:
            raise Refusal(503, TRY_LATER, "this cannot be decided and recorded now; nothing was changed")
        unresolved = asked.patient is None and asked.data_class not in IMPERSONAL
        if unresolved or not answer.decision.allowed:
            # An unknown document and a forbidden one read the same, whatever the reason was.
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        decided = (question, answer)
        admitted = Admitted(identity, asked.patient or "", answer.decision.basis, desk, answer.id, decided)
        admission = Admission(asked, admitted, question.action.name, origin.traceparent)
        request.scope.setdefault(ADMISSIONS, []).append(admission)
        return admitted


def is_desk(identity: Identity) -> bool:
    """Tell whether the caller acts as a registration desk."""
    return identity.purpose in (DESK, (DESK,))


def own_org(identity: Identity) -> str | None:
    """Return the organisation that the token says; the directory narrows it where it is decided."""
    return identity.subject.properties.org if identity.subject.properties is not None else None


def origin_of(request: Request, identity: Identity | None = None) -> Origin:
    """Return where a call came from, and whose it is."""
    headers: Mapping[str, Any] = request.headers
    traceparent = headers.get("traceparent")
    origin = Origin(
        "control", traceparent=traceparent and traceparent[:_MAX_TRACEPARENT], point=request.scope.get(POINT, "")
    )
    if identity is None:
        return origin
    return replace(
        origin, actors=identity.actors, issued_at=identity.issued_at, jti=identity.jti, good_until=identity.good_until
    )
