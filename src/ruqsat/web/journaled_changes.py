"""
Every change of the control API is an entry of the journal before it is answered (order §16).

The decision that lets a change happen stands in the journal before the change is begun.
Once a route has answered that it is done, a second entry says what was done, and only
when that is on stable storage does the answer leave.  This stands around all routes, so
that none can forget it; what the gate let in by the way is what the entry tells.

Where the journal fails in between, the change is made and the answer says that its outcome
is unknown: whoever asks again with the same idempotency key is answered, and journaled, as
if for the first time.  The entry is not given up either: it goes before the next one.

What a route refuses although the policy let it happen is taken back: a permit in the
journal has the patient told of a use or a change, and there was none.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from msgspec import Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ruqsat.errors import JournalError
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.entries import ChangeEntry, Named
from ruqsat.web.enforcement_points import POINT
from ruqsat.web.gate import ADMISSIONS, WRITTEN, Admission, origin_of
from ruqsat.web.problems import Refusal, answer_refusal

CHANGE = "change"
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
OWED = 1_000
"""How many entries that could not be written are kept until they can be; each was answered with 503."""

_DONE, _REFUSED, _FAILED = 300, 400, 500
_Entry = tuple[ChangeEntry, Named]
_log = logging.getLogger(__name__)


class _Told(Struct):
    """What an answer says of a record."""

    id: str | None = None
    consent: str | None = None
    version: int | None = None
    status: str | None = None


def journal_changes(app: FastAPI, decision_point: DecisionPoint) -> None:
    """Let every change that *app* makes be journaled before it is answered."""
    app.add_middleware(JournaledChanges, decision_point=decision_point)


class JournaledChanges:
    """Holds the answer to a change back until its entries are on stable storage."""

    def __init__(self, app: ASGIApp, decision_point: DecisionPoint) -> None:
        self._app, self._decision_point = app, decision_point
        self._owed: deque[_Entry] = deque(maxlen=OWED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and its answer back."""
        if scope["type"] != "http" or scope["method"] not in CHANGES:
            await self._app(scope, receive, send)
            return
        scope[ADMISSIONS] = []
        digest, answer = hashlib.sha256(), _Answer()

        async def read() -> Message:
            message = await receive()
            digest.update(message.get("body", b""))
            return message

        async def hold(message: Message) -> None:
            if answer.hold(message):
                await self._conclude(scope, answer, digest.hexdigest(), receive, send)

        await self._app(scope, read, hold)

    async def _conclude(self, scope: Scope, answer: "_Answer", content: str, receive: Receive, send: Send) -> None:
        if answer.status < _DONE:
            try:
                await self._keep(entries_of(scope, answer.body, content))
            except JournalError:
                detail = "the change may have been made, but it could not be journaled: ask again, with the same key"
                refusal = answer_refusal(Request(scope), Refusal(503, "outcome-unknown", detail))
                await refusal(scope, receive, send)
                return
        elif _REFUSED <= answer.status < _FAILED:
            await self._take_back(scope)
        for message in answer.messages:
            await send(message)

    async def _take_back(self, scope: Scope) -> None:
        for each in scope[ADMISSIONS]:
            if each.admitted.decided is not None:
                question, permit = each.admitted.decided
                origin = origin_of(Request(scope), each.admitted.identity)
                await self._decision_point.take_back(question, origin, permit, "refused")

    async def _keep(self, entries: Iterable[_Entry]) -> None:
        """
        Append these, and before them what is owed; what cannot be written is owed.

        Raises:
            JournalError: one of these is not on stable storage.
        """
        owed = [self._owed.popleft() for _ in range(len(self._owed))]
        own = [(self._decision_point.stamped(entry), named) for entry, named in entries]
        tasks = [asyncio.ensure_future(self._write(*each)) for each in (*owed, *own)]
        if tasks:
            await asyncio.wait(tasks)  # whoever is cancelled meanwhile cancels none of them
        if not all(task.result() for task in tasks[len(owed) :]):
            raise JournalError("a change could not be journaled")

    async def _write(self, entry: ChangeEntry, named: Named) -> bool:
        try:
            await self._decision_point.record(entry, named)
        except JournalError:
            if len(self._owed) == OWED:
                _log.error("change_given_up entry=%s operation=%r", self._owed[0][0].id, self._owed[0][0].operation)
            self._owed.append((entry, named))
            _log.error("change_not_journaled entry=%s operation=%r", entry.id, entry.operation)
            return False
        return True


class _Answer:
    """An answer that is held back."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def hold(self, message: Message) -> bool:
        """Keep a part of the answer; tell whether it was the last."""
        self.messages.append(message)
        return message["type"] == "http.response.body" and not message.get("more_body", False)

    @property
    def status(self) -> int:
        """The status."""
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(each.get("body", b"") for each in self.messages[1:])


def entries_of(scope: Mapping[str, Any], body: bytes, content: str) -> Iterator[_Entry]:
    """
    Yield the entries of a change that was made: one for each patient whom the gate was asked about, or for nobody.

    A call about many patients says which records of whom it has written; whoever is not among them has no entry.

    Args:
        scope: With what the gate let in by the way.
        body: Of the answer.
        content: SHA-256 of the call's body.
    """
    operation = f"{scope['method']} {_route_of(scope)}"
    admissions: dict[str, Admission] = {}
    for each in scope[ADMISSIONS]:
        admissions.setdefault(each.admitted.patient, each)
    written: Mapping[str, tuple[str, ...]] | None = scope.get(WRITTEN)
    if not admissions:  # no route does this; if one ever does, that it was called is not lost
        _log.error("change_without_admission operation=%r", operation)
        yield ChangeEntry(CHANGE, "", "", "control", "", operation), Named(content=content)
    told = _told(body) if written is None else _Told()
    for patient, each in admissions.items():
        if written is None or patient in written:
            records = () if written is None else written[patient]
            # The digest of a call about several would outlive the erasure of one of them.
            own = content if len(admissions) == 1 else None
            yield _entry(scope, operation, each, told), _named(each, told, records, own)


def _entry(scope: Mapping[str, Any], operation: str, admission: Admission, told: _Told) -> ChangeEntry:
    asked, admitted = admission.asked, admission.admitted
    identity = admitted.identity
    said = identity.subject.properties
    return ChangeEntry(
        CHANGE, admitted.entry, "", "control", "", operation, admission.action, admitted.basis,
        said.roles if said is not None else None, said.org if said is not None else None, identity.purpose,
        asked.type, asked.data_class, told.version, told.status, None, scope.get(POINT, ""),
    )  # fmt: skip


def _named(admission: Admission, told: _Told, records: tuple[str, ...], content: str | None) -> Named:
    asked, identity = admission.asked, admission.admitted.identity
    return Named(
        identity.subject.id, identity.actors, admission.traceparent, admission.admitted.patient or None,
        told.id or told.consent or asked.id, jti=identity.jti, records=records, content=content,
    )  # fmt: skip


def _told(body: bytes) -> _Told:
    try:
        return msgspec.json.decode(body, type=_Told)
    except msgspec.MsgspecError:
        return _Told()


def _route_of(scope: Mapping[str, Any]) -> str:
    """Return the route, with the name of an event but without any id."""
    path: str = getattr(scope.get("route"), "path", "")
    event = scope.get("path_params", {}).get("event")
    return path if event is None else path.replace("{event}", str(event))
