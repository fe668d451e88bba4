"""
The journal on the control API, for the privacy office: entries of its own organisation, filtered, or taken away.

Two questions are asked of the policy: whether the caller may look through the journal of
this organisation, and, where one patient is named, through that patient's.  Both answers
stand in the journal before anything is read.
"""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ruqsat.core.audit_event import audit_event
from ruqsat.core.instant import DAY, Instant
from ruqsat.core.journal_export import csv_head, csv_row, told_entry
from ruqsat.core.journal_filter import Found, JournalFilter
from ruqsat.core.journal_proof import Receipt
from ruqsat.core.journaled import DECISION
from ruqsat.errors import JournalError
from ruqsat.service.journal_views import JournalViews, Looking, TooMuchError
from ruqsat.service.page_cursor import CursorRefusedError
from ruqsat.web.access_log import spanning
from ruqsat.web.calls import answered, problems
from ruqsat.web.consent_models import Moment
from ruqsat.web.gate import AUDIT, Asked, Gate, own_org
from ruqsat.web.problems import TRY_LATER, Refusal

USUAL: Instant = 31 * DAY
"""How far back a question goes that does not say since when."""

SYSTEM = "urn:kz:dsm54"
"""The URI under which identifiers stand in an AuditEvent."""

_MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl", "fhir": "application/fhir+ndjson"}

Word = Annotated[str | None, Field(min_length=1, max_length=256)]


class Wanted(BaseModel):
    """Which entries; what is left out does not matter, but for the organisation: then it is the caller's own."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    patient: Word = None
    subject: Word = None
    org: Word = None
    action: Word = None
    data_class: Annotated[Word, Field(alias="class")] = None
    allowed: bool | None = None
    reason: Word = None
    rule: Word = None
    grant: Word = None
    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None
    format: Literal["json", "csv", "jsonl", "fhir"] = "json"
    cursor: Annotated[str | None, Field(max_length=512)] = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


def build_journal(views: JournalViews, gate: Gate) -> APIRouter:
    """Build the route."""
    router = APIRouter(tags=["journal"], responses=problems(401, 403, 404, 422, 503))

    @router.get(
        "/v1/journal", summary="Look through the journal of the own organisation, or take a part of it away.",
        responses={200: {"content": {media.partition(";")[0]: {} for media in _MEDIA.values()}}},
    )  # fmt: skip
    async def read(request: Request, asked: Annotated[Wanted, Query()]) -> Response:
        wanted, caller = await _admitted(request, gate, asked)
        if asked.format == "json":
            try:
                since = views.now() - USUAL
                found, older = await views.entries(wanted, Looking(caller, asked.cursor, asked.limit, since))
            except CursorRefusedError as error:
                raise Refusal(422, error.code, str(error)) from None
            return answered({"entries": [told_entry(each) for each in found], "next": older})
        bounded = msgspec.structs.replace(wanted, since=wanted.since or views.now() - USUAL)
        try:
            await views.refuse_too_much(bounded)
        except TooMuchError as error:
            raise Refusal(422, error.code, str(error)) from None
        return StreamingResponse(
            _written(views.export(bounded), asked.format), media_type=_MEDIA[asked.format],
            headers={
                "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
                "Content-Disposition": f'attachment; filename="journal.{_ENDINGS[asked.format]}"',
            },
        )  # fmt: skip

    @router.get(
        "/v1/journal/entries/{entry}/receipt", summary="The proof that an entry is in this sidecar's signed journal.",
        responses=problems(404, 409),
    )  # fmt: skip
    async def receipt(
        request: Request, entry: Annotated[str, Path(max_length=64)], personal: bool = True
    ) -> Response:  # fmt: skip
        return Response(
            msgspec.json.encode(await _receipt(request, views, gate, entry, personal)),
            media_type="application/json", headers={"Cache-Control": "no-store"},
        )  # fmt: skip

    return router


async def _receipt(request: Request, views: JournalViews, gate: Gate, entry: str, personal: bool) -> Receipt:
    """
    Return the receipt of an entry of the caller's organisation; of several patients it names nobody.

    Raises:
        Refusal: the policy does not let the caller (403), there is no such entry (404), none is signed yet (409).
    """
    identity = await gate.identify(request)
    org = own_org(identity)
    question = Asked("journal_read", "journal_read", None, "receipt", org, type="AuditEvent", data_class=AUDIT)
    await gate.admit(request, identity, question)
    found, said = None, None
    try:
        if views.receipts is not None:
            found, said = await views.receipts.find(entry)
            if said.patients_beside or not personal:
                found, said = await views.receipts.find(entry, without_personal=True)
    except JournalError as error:
        if error.code == "not-signed-yet":
            raise Refusal(409, error.code, str(error), {"Retry-After": "60"}) from None
        if error.code != "unknown-entry":
            raise Refusal(503, TRY_LATER, "the journal cannot be read now") from None
    if found is None or said is None or org is None or said.org != org:
        raise Refusal(404, "unknown-entry", "the journal of this sidecar holds no such entry of your organisation")
    if said.patient is not None:
        about = Asked(
            "journal_read", "journal_read", said.patient, "receipt", org, type="AuditEvent", data_class="journal"
        )
        await gate.admit(request, identity, about)
    return found


async def _admitted(request: Request, gate: Gate, asked: Wanted) -> tuple[JournalFilter, str]:
    """
    Return what may be looked for, and who looks.

    Raises:
        Refusal: the policy does not let the caller (403), or the question is malformed (422).
    """
    identity = await gate.identify(request)
    org = asked.org or own_org(identity)
    what = "all" if asked.format == "json" else f"export-{asked.format}"
    question = Asked("journal_read", "journal_read", None, what, org, type="AuditEvent", data_class=AUDIT)
    await gate.admit(request, identity, question)
    if asked.patient is not None:
        about = Asked("journal_read", "journal_read", asked.patient, what, org, type="AuditEvent", data_class="journal")
        await gate.admit(request, identity, about)
    named = asked.model_dump(
        include={"patient", "subject", "action", "data_class", "allowed", "reason", "rule", "grant"}
    )
    return spanning(JournalFilter(**named, org=org), asked.since, asked.until), identity.subject.id


async def _written(entries: AsyncIterator[Found], form: str) -> AsyncIterator[bytes]:
    """Yield an export; if it breaks off, so does the answer, and the reader of a chunked body knows."""
    if form == "csv":
        yield csv_head().encode()
    async for found in entries:
        if form != "fhir" or found.entry.kind == DECISION:
            yield _FORMS[form](found)


def _line(content: Any) -> bytes:
    return msgspec.json.encode(content) + b"\n"


_FORMS: dict[str, Callable[[Found], bytes]] = {
    "csv": lambda found: csv_row(found).encode(),
    "jsonl": lambda found: _line(told_entry(found)),
    "fhir": lambda found: _line(audit_event(found, SYSTEM)),
}
_ENDINGS = {"csv": "csv", "jsonl": "jsonl", "fhir": "ndjson"}
