"""
Clients of the JSON listener (AuthZEN 1.0), for threads and for tasks.

They fail closed: an error, a late, cut or odd answer is a denial, never an
exception that somebody may forget to catch.  Nothing is asked twice: a repeated
question would be a second entry of the journal.
"""

import logging
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import httpx
import msgspec

from ruqsat.pep.answers import MAX_ANSWER_BYTES, UNAVAILABLE, Decision, read_decision, read_decisions

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
MAX_QUESTIONS = 1000
TIMEOUT_SECONDS = 1.0

Question = Mapping[str, Any]
_log = logging.getLogger("ruqsat.pep")


class _NoAnswerError(Exception):
    """What came is no answer; the message says what it was."""


class _Base:
    """
    What both clients are made of.

    Args:
        address: The JSON listener: ``host:port``, ``unix:/path`` or a URL.
        secret: What the enforcement point proves itself by, sent as ``X-Ruqsat-Secret``.
        duties: Blocking duties that the caller carries out when an answer demands them (``redact``, …).
        timeout: Seconds until there is an answer, or a denial.
        verify: How a TLS listener is verified, client certificate included; None for the system's authorities.
    """

    def __init__(
        self, address: str, *, secret: str | None = None, duties: Iterable[str] = (),
        timeout: float = TIMEOUT_SECONDS, verify: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self.duties = frozenset(duties)
        self._timeout = timeout
        self._unix = address.removeprefix("unix:") if address.startswith("unix:") else None
        self._verify: ssl.SSLContext | bool = True if verify is None else verify
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        self._options: dict[str, Any] = {
            "base_url": "http://ruqsat" if self._unix else address if "://" in address else f"http://{address}",
            "headers": headers if secret is None else headers | {"x-ruqsat-secret": secret},
            "timeout": timeout, "trust_env": False, "follow_redirects": False,
        }  # fmt: skip

    def _body(self, question: Question, token: str | None) -> bytes:
        """Return a question that says what its asker can carry out, and how fresh the answer must be."""
        context: dict[str, Any] = {**(question.get("context") or {}), "pep_capabilities": sorted(self.duties)}
        if token is not None:
            context["consistency_token"] = token
        return msgspec.json.encode({**question, "context": context})

    def _batch(self, questions: Sequence[Question], token: str | None) -> bytes:
        if len(questions) > MAX_QUESTIONS:
            raise ValueError(f"more than {MAX_QUESTIONS} questions in one call")
        bodies = [msgspec.Raw(self._body(question, token)) for question in questions]
        return msgspec.json.encode({"evaluations": bodies})


class _Arriving(NamedTuple):
    """An answer on its way: what was read of it, and when it is too late for more."""

    body: bytearray
    give_up: float

    def add(self, part: bytes) -> None:
        self.body.extend(part)
        if len(self.body) > MAX_ANSWER_BYTES:
            raise _NoAnswerError("an answer that is too large")
        if time.monotonic() > self.give_up:
            raise _NoAnswerError("an answer that is late")


def _check_head(answer: httpx.Response) -> None:
    kind = answer.headers.get_list("content-type")
    if answer.status_code != httpx.codes.OK:
        raise _NoAnswerError(f"status {answer.status_code}")
    if len(kind) != 1 or kind[0].partition(";")[0].strip().lower() != "application/json":
        raise _NoAnswerError("an answer that is not JSON")


def _log_failure(error: Exception) -> None:
    # No traceback: it would show what was asked about whom.
    _log.warning(
        "no answer from the sidecar, so it is denied: %s",
        error if isinstance(error, _NoAnswerError) else type(error).__name__,
    )


class Client(_Base):
    """
    Asks from a thread; safe to share between threads.

    ``timeout`` holds for each step of a call and for the whole of the answer's body.

    Examples:
        >>> with Client("127.0.0.1:1") as client:
        ...     client.evaluate({"subject": {"type": "user", "id": "dr_aida"}}).reason
        'unavailable'
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        transport = httpx.HTTPTransport(uds=self._unix, verify=self._verify)
        self._http = httpx.Client(transport=transport, **self._options)

    def evaluate(self, question: Question, *, token: str | None = None) -> Decision:
        """
        Ask one question; denied unless the sidecar permits and every blocking duty can be carried out.

        Args:
            question: AuthZEN's ``subject``, ``action``, ``resource`` and ``context``.
            token: A consistency token: the answer knows at least what the one that gave it knew.
        """
        try:
            return read_decision(self._post(EVALUATION, self._body(question, token)), self.duties)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody was permitted anything
            _log_failure(error)
            return UNAVAILABLE

    def evaluations(self, questions: Sequence[Question], *, token: str | None = None) -> list[Decision]:
        """Ask up to 1000 questions in one call; return as many decisions, in the questions' order."""
        if not questions:
            return []
        try:
            said = self._post(EVALUATIONS, self._batch(questions, token))
            return read_decisions(said, len(questions), self.duties)
        except Exception as error:  # noqa: BLE001 - see evaluate
            _log_failure(error)
            return [UNAVAILABLE] * len(questions)

    def close(self) -> None:
        """Close its connections; what is asked afterwards is denied."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, path: str, body: bytes) -> bytes:
        arriving = _Arriving(bytearray(), time.monotonic() + self._timeout)
        with self._http.stream("POST", path, content=body) as answer:
            _check_head(answer)
            parts: Iterator[bytes] = answer.iter_raw()
            for part in parts:
                arriving.add(part)
        return bytes(arriving.body)


class AsyncClient(_Base):
    """Asks from a task, as `Client` does from a thread; ``timeout`` holds for the whole call."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        transport = httpx.AsyncHTTPTransport(uds=self._unix, verify=self._verify)
        self._http = httpx.AsyncClient(transport=transport, **self._options)

    async def evaluate(self, question: Question, *, token: str | None = None) -> Decision:
        """Ask one question; see `Client.evaluate`."""
        try:
            return read_decision(await self._post(EVALUATION, self._body(question, token)), self.duties)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody was permitted anything
            _log_failure(error)
            return UNAVAILABLE

    async def evaluations(self, questions: Sequence[Question], *, token: str | None = None) -> list[Decision]:
        """Ask up to 1000 questions in one call; see `Client.evaluations`."""
        if not questions:
            return []
        try:
            said = await self._post(EVALUATIONS, self._batch(questions, token))
            return read_decisions(said, len(questions), self.duties)
        except Exception as error:  # noqa: BLE001 - see evaluate
            _log_failure(error)
            return [UNAVAILABLE] * len(questions)

    async def aclose(self) -> None:
        """Close its connections; what is asked afterwards is denied."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _post(self, path: str, body: bytes) -> bytes:
        arriving = _Arriving(bytearray(), time.monotonic() + self._timeout)
        with anyio.fail_after(self._timeout):
            async with self._http.stream("POST", path, content=body) as answer:
                _check_head(answer)
                parts: AsyncIterator[bytes] = answer.aiter_raw()
                async for part in parts:
                    arriving.add(part)
        return bytes(arriving.body)
