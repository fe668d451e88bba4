"""
Notices on the control API: the privacy office sees who was told of what, who was not, and why (order §20).

They are those of its own organisation's uses and changes, as its journal is.
"""

from collections.abc import Collection
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ruqsat.core.instant import Instant
from ruqsat.core.outgoing import Listed, describe
from ruqsat.web.calls import problems
from ruqsat.web.gate import AUDIT, Asked, Gate, own_org
from ruqsat.web.problems import Refusal

JOURNAL = "journal"
"""The data class by which notices are decided: they tell what the journal tells."""


class Notices(Protocol):
    """Where notices are on record."""

    async def list_notices(
        self, states: Collection[str], patient: str | None, after: tuple[Instant, str], limit: int,
        org: str | None = None,
    ) -> list[Listed]:  # fmt: skip
        """Return a page of notices in the order they were made."""
        ...


class NoticeOut(BaseModel):
    """A notice without its facts; ``entry`` is the decision that it tells of."""

    key: str
    state: Literal["pending", "delivered", "skipped", "dead"]
    kind: str
    audience: str
    patient: str | None
    recipient: str | None
    org: str | None
    entry: str
    channel: str | None
    reason: str | None
    legal_ground: str | None
    due: str
    deferred_until: str | None
    attempts: int
    next_at: str
    created_at: str
    settled_at: str | None


class NoticePage(BaseModel):
    """Notices, and what to ask with for those after them."""

    notices: list[NoticeOut]
    next: str | None


def build_notices(notices: Notices, gate: Gate) -> APIRouter:
    """Build the route."""
    router = APIRouter(prefix="/v1/notices", tags=["notices"], responses=problems(401, 403, 404, 422, 503))

    @router.get("", response_model=NoticePage, summary="List what a patient, or others because of it, were told.")
    async def page(
        request: Request,
        patient: Annotated[str, Query(min_length=1, max_length=256)],
        state: Annotated[Literal["pending", "delivered", "skipped", "dead"] | None, Query()] = None,
        cursor: Annotated[str, Query(max_length=80, pattern=r"^([0-9]{1,17}\.[0-9a-f]{1,60})?$")] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:
        identity = await gate.identify(request)
        org = own_org(identity)
        if org is None:
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        # As of the journal: a whole organisation's is asked for by its office, and of that what is about this patient.
        await gate.admit(
            request, identity, Asked("journal_read", "journal_read", None, "notices", org, "Notice", AUDIT)
        )
        asked = Asked("journal_read", "journal_read", patient, "Notice/all", type="Notice", data_class=JOURNAL)
        if (await gate.admit(request, identity, asked)).basis != "operator_duty":
            # What is held back from the patient on a legal ground stands here too: it is the office's alone.
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        made, _, key = cursor.partition(".")
        after = (int(made), key) if made else (-1, "")
        rows = await notices.list_notices((state,) if state else (), patient, after, limit + 1, org)
        more = f"{rows[limit - 1].created_at}.{rows[limit - 1].key}" if len(rows) > limit else None
        said = {"notices": [describe(each) for each in rows[:limit]], "next": more}
        return JSONResponse(said, headers={"Cache-Control": "no-store"})

    return router
