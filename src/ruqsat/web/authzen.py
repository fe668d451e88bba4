"""
The JSON listener: AuthZEN 1.0 evaluation, evaluations, search and discovery, raw ASGI.

The caller is the enforcement point and names the subject; until it can be
authenticated, settings bind this listener to loopback or a Unix socket only.
A denial is ``200`` with ``"decision": false``; HTTP errors are about the call,
never about the answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, Protocol

import msgspec

from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import RequestError
from ruqsat.service.answer import Answer
from ruqsat.service.origin import Origin
from ruqsat.service.search import Search, SearchRefusedError, Target
from ruqsat.web.at_once import Asked, AtOnce, Exchange, Told
from ruqsat.web.at_once import Decides as DecidesAtOnce
from ruqsat.web.batch import MAX_BATCH_BYTES, answer_batch, read_batch
from ruqsat.web.batch import Decides as BatchDecides
from ruqsat.web.enforcement_points import CHALLENGE, Door, EnforcementPoint
from ruqsat.web.follow_ups import ENTRIES, OUTCOMES, RECEIPT, FollowUps
from ruqsat.web.load import Load
from ruqsat.web.protocol import KEPT, once_writable
from ruqsat.web.search import SEARCH, SEARCHES, read_search, write_page
from ruqsat.web.wire import MAX_BODY_BYTES, decode_evaluation, encode_answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
_Read = tuple[bytes | None, bytes | None, str | None]
"""The id of a request, its content type and its trace."""

EVALUATION = "/access/v1/evaluation"
EVALUATIONS = "/access/v1/evaluations"
METADATA = "/.well-known/authzen-configuration"
JSON = b"application/json"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
_SINGLE = EVALUATION.encode()
_FAILED = "the decision point failed; nothing was allowed"
_NO_SUCH = f"no such endpoint: expected POST {EVALUATION}, {EVALUATIONS}, {SEARCH}… or {OUTCOMES}"
_OVERLOADED = "the decision point has too much under way; nothing was allowed"
_RETRY = (b"retry-after", b"1")
_HEADERS = "headers"
_MAX_TRACEPARENT = 256
_log = logging.getLogger("ruqsat.json")


def _text(status: bytes, sentence: str, extra: bytes = b"") -> Told:
    """Write an error as ``say`` has it written."""
    head = b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n%b"
    return Told(head % (status, len(sentence), extra), sentence.encode())


_TURNED_AWAY = _text(b"503 Service Unavailable", _OVERLOADED, b"retry-after: 1\r\n")


class Decides(BatchDecides, DecidesAtOnce, Protocol):
    """The decision point, as this listener needs it."""

    policy_set: PolicySet

    async def decide(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet) -> Answer:
        """Decide one question."""
        ...


class AuthZen:
    """
    The ASGI application of the JSON listener.

    Args:
        decision_point: Decides.
        door: Who may ask, may see exact reasons, and can carry out which duties.
        load: What is under way, with the other listeners that decide.
        metadata: What discovery answers; None where no public address is configured.
        search: Finds what is allowed, for points that may search; None where nobody may.
        follow_ups: Takes outcomes of decisions, and hands out their receipts.
    """

    method, most_bytes = b"POST", MAX_BODY_BYTES
    refusal = _text(b"500 Internal Server Error", _FAILED)

    def __init__(
        self,
        decision_point: Decides,
        door: Door,
        metadata: Mapping[str, str] | None = None,
        load: Load | None = None,
        search: Search | None = None,
        follow_ups: FollowUps | None = None,
    ) -> None:
        self._decision_point = decision_point
        self._search, self._follow_ups = search, follow_ups
        self._door = door
        self._load = load or Load()
        self._metadata = metadata
        self._at_once = AtOnce(decision_point, self._load)
        self._plain = {point.name: _origin(point) for point in door.points}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request_id, content_type, traceparent = _read_headers(scope["headers"])
        extra = [(b"x-request-id", request_id)] if request_id is not None else []
        point = self._door.enter(scope)
        try:
            await once_writable(scope)
            if point is None:
                await say(send, 401, "this listener answers registered enforcement points only", [*extra, CHALLENGE])
                return
            origin = self._plain[point.name] if traceparent is None else _origin(point, traceparent)
            if scope["path"] == EVALUATION:
                if await _is_json_post(scope, content_type, send, extra):
                    await self._evaluation(receive, send, origin, extra)
            elif scope["path"] == EVALUATIONS:
                if await _is_json_post(scope, content_type, send, extra):
                    await self._evaluations(receive, send, origin, extra)
            elif scope["path"] in SEARCHES:
                if await _is_json_post(scope, content_type, send, extra):
                    await self._find(SEARCHES[scope["path"]], point, origin, receive, send, extra)
            elif scope["path"] == METADATA and self._metadata is not None:
                await self._discovery(scope, send, extra)
            else:
                await self._follow(scope, content_type, point, receive, send, extra)
        except RequestError as error:
            await say(send, 400, str(error), extra)
        except SearchRefusedError as error:
            await say(send, 403, str(error), extra)
        except asyncio.CancelledError:
            # The process stops and waits no longer: what is undecided is not allowed.
            _log.warning("evaluation_cut_short")
            await say(send, 500, "the decision point is stopping; nothing was allowed", extra)
        except Exception:  # noqa: BLE001
            # The edge of the hot path: whatever went wrong, the caller gets no permit and no detail.
            _log.exception("evaluation_failed")
            await say(send, 500, _FAILED, extra)

    async def _evaluation(self, receive: Receive, send: Send, origin: Origin, extra: Headers) -> None:
        body = await read_on(await receive(), receive)
        # Only what has arrived whole is under way: whoever sends slowly takes nobody's place.
        if not (self._load.enter() or await self._load.wait(origin.point)):
            await say(send, 503, _OVERLOADED, [*extra, _RETRY])
            return
        try:
            policy_set = self._decision_point.policy_set
            question = decode_evaluation(body, policy_set.request_type)
            answer = await self._decision_point.decide(question, origin, policy_set)
        finally:
            self._load.leave()
        said = encode_answer(answer, origin.explain)
        await reply(send, 200, JSON, said, extra)

    def is_plain(self, target: bytes) -> bool:
        """Tell whether it is a single question."""
        return target == _SINGLE

    def answer_at_once(self, scope: Scope, body: bytes, exchange: Exchange) -> bool:
        """Answer a single question, if its facts are in memory; see ``AnswersAtOnce``."""
        try:
            request_id, content_type, traceparent = _read_head(scope)
            point = self._door.enter(scope)
            if point is None or request_id is not None or content_type != JSON:
                return False
            if self._load.is_full:
                return self._turned_away(point, exchange)
            origin = self._plain[point.name] if traceparent is None else _origin(point, traceparent)
            policy_set = self._decision_point.policy_set
            question = decode_evaluation(body, policy_set.request_type)
        except RequestError:
            return False
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the edge of the hot path: no permit, no detail
            _log.exception("evaluation_failed")
            exchange.refuse()
            return True
        return self._at_once.decide(Asked(question, origin, policy_set, _EXPLAINED[origin.explain]), exchange)

    def _turned_away(self, point: EnforcementPoint, exchange: Exchange) -> bool:
        """Say that too much is under way, at the least cost; False lets the question wait for a place."""
        if not self._load.turns_away(point.name):
            return False
        exchange.answer(_TURNED_AWAY)
        return True

    async def _evaluations(self, receive: Receive, send: Send, origin: Origin, extra: Headers) -> None:
        body = await read_on(await receive(), receive, MAX_BATCH_BYTES)
        if not (self._load.enter() or await self._load.wait(origin.point)):
            await say(send, 503, _OVERLOADED, [*extra, _RETRY])
            return
        try:
            policy_set = self._decision_point.policy_set
            asked = read_batch(body, policy_set.request_type)
            if isinstance(asked, EvaluationRequest):
                answer = await self._decision_point.decide(asked, origin, policy_set)
                said = encode_answer(answer, origin.explain)
            else:
                said = await answer_batch(asked, self._decision_point, origin, policy_set)
        finally:
            self._load.leave()
        await reply(send, 200, JSON, said, extra)

    async def _find(
        self, target: Target, point: EnforcementPoint, origin: Origin, receive: Receive, send: Send, extra: Headers
    ) -> None:
        body = await read_on(await receive(), receive)
        if self._search is None or not point.search:
            raise SearchRefusedError("this enforcement point may not search")
        if not (self._load.enter() or await self._load.wait(origin.point)):
            await say(send, 503, _OVERLOADED, [*extra, _RETRY])
            return
        try:
            policy_set = self._search.policy_set
            question = read_search(target, body, policy_set.request_type)
            page = await self._search.find(question, origin, policy_set)
        finally:
            self._load.leave()
        await reply(send, 200, JSON, write_page(question, page), extra)

    async def _follow(
        self, scope: Scope, content_type: bytes | None, point: EnforcementPoint, receive: Receive, send: Send,
        extra: Headers,
    ) -> None:  # fmt: skip
        follow_ups, path = self._follow_ups, scope["path"]
        if follow_ups is None:
            await say(send, 404, _NO_SUCH, extra)
            return
        if path == OUTCOMES:
            if not await _is_json_post(scope, content_type, send, extra):
                return
            work = partial(follow_ups.report, await read_on(await receive(), receive), point)
        elif path.startswith(ENTRIES) and path.endswith(RECEIPT) and scope["method"] == "GET":
            work = partial(follow_ups.receipt, path, point)
        else:
            await say(send, 404, _NO_SUCH, extra)
            return
        if not (self._load.enter() or await self._load.wait(point.name)):
            await say(send, 503, _OVERLOADED, [*extra, _RETRY])
            return
        try:
            status, said = await work()
        finally:
            self._load.leave()
        if isinstance(said, bytes):
            await reply(send, status, JSON, said, [*extra, (b"cache-control", b"no-store")])
        else:
            await say(send, status, said, extra)

    async def _discovery(self, scope: Scope, send: Send, extra: Headers) -> None:
        if scope["method"] not in ("GET", "HEAD") or self._metadata is None:
            await say(send, 405, "expected GET", [*extra, (b"allow", b"GET, HEAD")])
        else:
            # The draft obligations profile: the types that an answer may carry.
            duties = sorted(self._decision_point.policy_set.vocabulary.duties)
            said = msgspec.json.encode({**self._metadata, "supported_obligations": duties})
            await reply(send, 200, JSON, said, [*extra, (b"cache-control", b"public, max-age=3600")])


def _write(explain: bool, answer: Answer) -> Told:
    said = encode_answer(answer, explain)
    return Told(_HEAD % len(said), said)


_EXPLAINED = (partial(_write, False), partial(_write, True))


def _origin(point: EnforcementPoint, traceparent: str | None = None) -> Origin:
    return Origin(
        "json", point.explain, frozenset(point.capabilities), traceparent, point=point.name,
        recurs=traceparent is None,
    )  # fmt: skip


async def _is_json_post(scope: Scope, content_type: bytes | None, send: Send, extra: Headers) -> bool:
    """Tell whether a body of JSON was posted; if not, that is said."""
    if scope["method"] != "POST":
        await say(send, 405, "expected POST", [*extra, (b"allow", b"POST")])
    elif content_type is None or content_type.split(b";", 1)[0].strip().lower() != JSON:
        await say(send, 400, "expected `Content-Type: application/json`", extra)
    else:
        return True
    return False


def build_metadata(public_url: str, *, search: bool = False) -> dict[str, str]:
    """
    Return what discovery answers (AuthZEN 1.0, section 9): addresses under *public_url*, never under a caller's Host.

    Those of search are told only where somebody may *search*.

    Examples:
        >>> build_metadata("https://pdp.example/")["access_evaluation_endpoint"]
        'https://pdp.example/access/v1/evaluation'
    """
    base = public_url.rstrip("/")
    endpoints = {
        "policy_decision_point": base,
        "access_evaluation_endpoint": base + EVALUATION,
        "access_evaluations_endpoint": base + EVALUATIONS,
    }
    if search:
        endpoints |= {f"search_{target}_endpoint": base + path for path, target in SEARCHES.items()}
    return endpoints


def _read_head(scope: Scope) -> _Read:
    """Read the headers; those of a head that is known byte for byte, once."""
    kept: dict[str, _Read] = scope.get(KEPT, {})
    read = kept.get(_HEADERS)
    if read is None:
        read = kept[_HEADERS] = _read_headers(scope["headers"])
    return read


def _read_headers(headers: Headers) -> _Read:
    request_id = content_type = None
    traceparent = None
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"x-request-id":
            request_id = value
        elif name == b"traceparent":
            traceparent = value[:_MAX_TRACEPARENT].decode("latin-1")
    return request_id, content_type, traceparent


async def read_on(message: MutableMapping[str, Any], receive: Receive, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """
    Return the whole body, of which *message* is the first part.

    Raises:
        RequestError: it is larger than *max_bytes*, or ends early.
    """
    body = bytearray()
    while True:
        if message["type"] != "http.request":
            raise RequestError("the caller went away before its request was complete")
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise RequestError(f"the body is larger than {max_bytes // 1024} KiB")
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()


async def say(send: Send, status: int, sentence: str, extra: Headers) -> None:
    """Send an error; AuthZEN wants a body that is an error message string."""
    await reply(send, status, b"text/plain; charset=utf-8", sentence.encode(), extra)


async def reply(send: Send, status: int, content_type: bytes, body: bytes, extra: Headers) -> None:
    """Send an answer."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
