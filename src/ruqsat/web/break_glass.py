"""
Break-glass sessions on the control API: opening, the review queue, a review, and the right given back.

What a session shares with other records (reading, closing, revoking) stands in ``records``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response

from ruqsat.core.break_glass import Opening
from ruqsat.core.instant import SECOND, parse_instant
from ruqsat.core.registered import RecordRow
from ruqsat.service.break_glass import Ask, BreakGlass
from ruqsat.service.consent_changes import RegistryError, new_id
from ruqsat.web.calls import body_of, call_of, caller_of, content_of, full, version_of, written
from ruqsat.web.claims import Identity
from ruqsat.web.consent_models import read_model
from ruqsat.web.gate import QUEUE, Admitted, Asked, Gate, own_org
from ruqsat.web.identity import LEEWAY_SECONDS
from ruqsat.web.problems import Refusal
from ruqsat.web.record_models import RecordPage, RecordWritten, Reinstatement, Review, SessionIn

STEP_UP_SECONDS = 300
"""How fresh the proof by several factors must be that opens a session."""

SECOND_PERSON = b"ruqsat-second-person"
"""The header with the bearer token of whoever confirms a further session beside its clinician."""

REFUSED = "break-glass-"
"""How the codes begin of what the limits of sessions refuse, and the policy would not."""

STEP_UP, INCOMPLETE = "step-up-required", "record-incomplete"
"""What else an opening is refused with: no fresh second factor; an item is missing, and the caller was strict."""

OFFICE = "HCOMPL"
"""The purpose that the privacy office states."""

Id = Annotated[str, Path(min_length=1, max_length=256)]
Found = Callable[[Request, str, str, str], Awaitable[tuple[Admitted, RecordRow | None]]]
Listed = Callable[[Request, str, str, int], Awaitable[RecordPage]]


def add_sessions(router: APIRouter, sessions: BreakGlass, gate: Gate, listed: Listed, found: Found) -> None:
    """Add the routes of the life of sessions; *listed* answers for one patient."""
    _add_opening(router, sessions, gate)
    _add_queue(router, sessions, gate, listed)
    _add_judgements(router, sessions, found)


def _asked(action: str, patient: str, id_: str, org: str | None) -> Asked:
    return Asked(action, action, patient, id_, org, type="EmergencyGrant", data_class="session")


def _add_opening(router: APIRouter, sessions: BreakGlass, gate: Gate) -> None:
    @router.post(
        "", status_code=201, response_model=RecordWritten, openapi_extra=body_of(SessionIn), summary="Open a session.",
    )  # fmt: skip
    async def create(
        request: Request,
        idempotency_key: Annotated[str | None, Header()] = None,
        prefer: Annotated[str | None, Header()] = None,
    ) -> Response:
        identity = await gate.identify(request)
        call = await call_of(request, idempotency_key, prefer)
        data, id_, org = read_model(SessionIn, call.content), new_id(sessions.now()), own_org(identity)
        # Asked first: a permit in the journal has people told, and whoever is challenged comes again.
        mfa = await _stepped_up(request, sessions, gate, identity)
        # The journal names the session before there is one: what cannot be journaled is not opened.
        question = _asked("create", data["patient"], id_, org)
        let_in = [await gate.admit(request, identity, question)]
        try:
            let_in += await _second_person(request, sessions, gate, question)
            second = _second_of(let_in[1].identity) if len(let_in) > 1 else None
            ask = Ask(id_, let_in[0].entry, org, mfa, second)
            told = await sessions.open(caller_of(let_in[0]), data, call, ask)
        except (Refusal, RegistryError) as error:
            # The policy has let it happen, and it has not: that the patient be told so, and be shown so.
            for each in let_in:
                await gate.take_back(request, each, _why(error))
            raise
        return written(told, 201, {"Location": f"/v1/emergency-grants/{told['id']}"})


def _second_of(identity: Identity) -> tuple[str, str | None]:
    """Return the id of a second person who confirms, and the organisation that its token states."""
    return identity.subject.id, own_org(identity)


def _why(error: Refusal | RegistryError) -> str:
    """Return the reason that the journal gives for an opening which the policy permitted and which was refused then."""
    if error.code.startswith(REFUSED):
        return "btg." + error.code.removeprefix(REFUSED).replace("-", "_")
    if isinstance(error, RegistryError):
        return "btg.reason" if error.code == INCOMPLETE else "stale"
    return "btg.mfa" if error.code == STEP_UP else "btg.second_person"


async def _second_person(request: Request, sessions: BreakGlass, gate: Gate, question: Asked) -> tuple[Admitted, ...]:
    """
    Return the second person, if one confirms the opening, as the policy admitted it.

    It must be permitted to open the session itself, and have just proved by several factors who it is.
    """
    if SECOND_PERSON not in dict(request.scope["headers"]):
        return ()
    identity = await gate.identify(request, SECOND_PERSON)
    await _stepped_up(request, sessions, gate, identity)
    return (await gate.admit(request, identity, question),)


def _add_queue(router: APIRouter, sessions: BreakGlass, gate: Gate, listed: Listed) -> None:
    @router.get(
        "", response_model=RecordPage, response_model_exclude_none=True,
        summary="List a patient's, or those of the organisation that wait for a review.",
    )  # fmt: skip
    async def page(
        request: Request,
        patient: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        state: Annotated[Literal["to_review"] | None, Query()] = None,
        due_before: Annotated[str | None, Query(max_length=64)] = None,
        cursor: Annotated[str, Query(max_length=256)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> RecordPage:
        if (patient is None) == (state is None):
            raise Refusal(400, "malformed-query", "expected `patient`, or `state=to_review`")
        if patient is not None:
            return await listed(request, patient, cursor, limit)
        before, after = _moment(due_before), _read_cursor(cursor)
        identity = await gate.identify(request)
        org = await sessions.office_of(identity.subject.id, own_org(identity))
        if org is None or identity.purpose not in (OFFICE, (OFFICE,)):
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        # A queue with nothing in it is told to nobody else either, and that it was looked at stands in the journal.
        await gate.admit(
            request, identity, Asked("search", "search", None, "to_review", org, "EmergencyGrant", data_class=QUEUE)
        )
        rows = await sessions.queue(org, before, after, limit + 1)
        shown = await _permitted(request, gate, identity, rows[:limit])
        last = rows[limit - 1][0] if len(rows) > limit else None
        return RecordPage(records=shown, next=None if last is None else f"{last.due}-{last.id}")


async def _permitted(
    request: Request, gate: Gate, identity: Identity, rows: list[tuple[Opening, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return what the policy lets the caller see: each session is a decision of its own, for each is a patient's."""

    async def may_see(opening: Opening) -> bool:
        try:
            await gate.admit(request, identity, _asked("search", opening.patient, opening.id, opening.org))
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            return False
        return True

    permitted = await asyncio.gather(*(may_see(opening) for opening, _ in rows))
    return [told for (_, told), may in zip(rows, permitted, strict=True) if may]


def _add_judgements(router: APIRouter, sessions: BreakGlass, found: Found) -> None:
    @router.post(
        "/{id_}/review", response_model=RecordWritten, openapi_extra=body_of(Review), summary="Write down a review."
    )
    async def review(request: Request, id_: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, row = await found(request, id_, "update", "update")
        said = read_model(Review, await content_of(request))
        org = own_org(admitted.identity)
        return written(await sessions.review(caller_of(admitted), full(row), version_of(if_match), said, org))

    @router.post(
        "/{id_}/reinstate", response_model=RecordWritten, openapi_extra=body_of(Reinstatement),
        summary="Give its clinician the right back.",
    )  # fmt: skip
    async def reinstate(request: Request, id_: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, row = await found(request, id_, "update", "update")
        said = read_model(Reinstatement, await content_of(request))
        org, version = own_org(admitted.identity), version_of(if_match)
        return written(await sessions.reinstate(caller_of(admitted), full(row), version, said["note"], org))


def _moment(text: str | None) -> int | None:
    try:
        return None if text is None else parse_instant(text)
    except ValueError:
        raise Refusal(400, "malformed-query", "expected `due_before` as a date-time with an offset") from None


def _read_cursor(text: str) -> tuple[int, str]:
    due, _, id_ = text.partition("-")
    if text and not (due.isascii() and due.isdecimal() and len(due) < 18):
        raise Refusal(400, "malformed-query", "expected the `next` of the page before as `cursor`")
    return (int(due), id_) if text else (0, "")


async def _stepped_up(request: Request, sessions: BreakGlass, gate: Gate, identity: Identity) -> bool:
    """
    Return whether the caller has just proved by several factors who it is (RFC 9470).

    Raises:
        Refusal: it has not, and the operator demands it (401); that stands in the journal.
    """
    proved, now = identity.auth_time, sessions.now() // SECOND
    if proved is not None and -LEEWAY_SECONDS <= now - proved <= STEP_UP_SECONDS:
        return True
    if sessions.vocabulary().switches.btg.mfa:
        await gate.refused(request, identity, "btg.mfa")
        challenge = f'Bearer error="insufficient_user_authentication", max_age="{STEP_UP_SECONDS}"'
        raise Refusal(
            401, STEP_UP, "a session is opened by whoever has just proved by several factors who it is",
            {"WWW-Authenticate": challenge},
        )  # fmt: skip
    return False
