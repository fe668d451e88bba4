"""
The access log on the control API: the patient's own, or the ward's, as JSON or as a page (order §28).

Looking is itself a decision and stands in the journal, and so in the log.  Whoever may not
look learns nothing: not whether there is such a patient, nor whether anything is in the log.
"""

from typing import Annotated, Any, Literal, cast

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from ruqsat.core.access_log import Viewer
from ruqsat.core.instant import DAY, Instant, parse_instant
from ruqsat.core.journal_filter import JournalFilter
from ruqsat.messages import Language
from ruqsat.service.journal_views import JournalViews, Looking
from ruqsat.service.page_cursor import CursorRefusedError
from ruqsat.web.access_page import HEADERS, Sheet, render_page
from ruqsat.web.access_text import language_of, told_access
from ruqsat.web.calls import answered, problems
from ruqsat.web.care_models import PathId
from ruqsat.web.consent_models import Moment
from ruqsat.web.gate import Admitted, Asked, Gate
from ruqsat.web.problems import Refusal

USUAL: Instant = 366 * DAY
"""How far back a log goes when nobody says since when."""

MOST: Instant = 1_100 * DAY
"""The longest time that one question may span: more than the three years that journals are kept."""

VIEWERS = ("self", "legal_rep")

Cursor = Annotated[str | None, Query(max_length=512)]


def build_access_log(views: JournalViews, gate: Gate) -> APIRouter:
    """Build the route."""
    router = APIRouter(tags=["access log"], responses=problems(401, 403, 404, 422, 503))

    @router.get(
        "/v1/patients/{id_}/access-log", summary="Who looked at a patient's data, or tried to.",
        responses={200: {"content": {"text/html": {}}}},
    )  # fmt: skip
    async def read(
        request: Request,
        id_: PathId,
        since: Annotated[Moment | None, Query(alias="from")] = None,
        until: Annotated[Moment | None, Query(alias="to")] = None,
        lang: Literal["kk", "ru", "en"] | None = None,
        cursor: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        identity = await gate.identify(request)
        asked = Asked("journal_read", "journal_read", id_, "access-log", type="AuditEvent", data_class="journal")
        admitted = await gate.admit(request, identity, asked)
        if admitted.basis not in VIEWERS:
            # The privacy office looks through its own organisation's journal, which says so, and not through this.
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        wanted = spanning(JournalFilter(patient=id_), since, until)
        looking = Looking(identity.subject.id, cursor, limit, views.now() - USUAL)
        try:
            rows, older = await views.access_log(wanted, cast(Viewer, admitted.basis), looking)
        except CursorRefusedError as error:
            raise Refusal(422, error.code, str(error)) from None
        return _answer(request, views, admitted, (rows, older, lang))

    return router


def spanning(wanted: JournalFilter, since: Any, until: Any) -> JournalFilter:
    """
    Return the filter with its bounds of time.

    Raises:
        Refusal: they are reversed, or too far apart (422).
    """
    start, end = (None if each is None else parse_instant(each.isoformat()) for each in (since, until))
    if start is not None and end is not None and not 0 <= end - start <= MOST:
        raise Refusal(422, "malformed-request", f"expected `from` before `to`, at most {MOST // DAY} days")
    return msgspec.structs.replace(wanted, since=start or 0, until=end)


def _answer(request: Request, views: JournalViews, admitted: Admitted, page: tuple[Any, str | None, Any]) -> Response:
    rows, older, lang = page
    language: Language = lang or language_of(request.headers.get("accept-language"))
    policy_set = views.policy_set()
    offset = policy_set.vocabulary.switches.home_utc_offset_hours
    varies = {"Content-Language": language, "Vary": "Accept, Accept-Language, Authorization"}
    if "text/html" in request.headers.get("accept", ""):
        query = {name: request.query_params[name] for name in ("from", "to", "limit") if name in request.query_params}
        sheet = Sheet(admitted.patient, language, views.now(), query, admitted.basis != "self", offset)
        return HTMLResponse(render_page(sheet, rows, older, policy_set.laws), headers=HEADERS | varies)
    told = [told_access(row, language, policy_set.laws, offset) for row in rows]
    answer = answered({"entries": told, "next": older, "language": language})
    answer.headers.update(varies)
    return answer
