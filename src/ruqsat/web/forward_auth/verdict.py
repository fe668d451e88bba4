"""What a proxy is told: the verdict, and its headers for ASGI and on the wire."""

from typing import Any

from msgspec import Struct

from ruqsat.service.answer import Answer
from ruqsat.web.at_once import Told

_HEADERS = b"content-length: 0\r\nx-ruqsat-decision: %b\r\nx-ruqsat-reason: %b\r\nx-ruqsat-subject: %b\r\n"
_WRITTEN = {200: b"HTTP/1.1 200 OK\r\n" + _HEADERS, 403: b"HTTP/1.1 403 Forbidden\r\n" + _HEADERS}


class Verdict(Struct, frozen=True):
    """
    What a proxy is told: 200 lets the request through, 401 and 403 do not.

    ``subject`` is whom the backend may take the request for; empty unless it is let through.
    """

    status: int = 403
    decision: str = ""
    reason: str = "try_later"
    subject: str = ""
    challenge: str = ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Headers of the answer; always all, even empty: one that is absent may let a client's forged one through."""
        told = [
            ("x-ruqsat-decision", self.decision), ("x-ruqsat-reason", self.reason), ("x-ruqsat-subject", self.subject),
        ]  # fmt: skip
        if self.status == 401:
            told.append(("www-authenticate", f'Bearer realm="ruqsat", error="{self.challenge}"'))
        return told


def head_of(verdict: Verdict) -> dict[str, Any]:
    """Return the head of the answer, as ASGI wants it."""
    told = [(name.encode("ascii"), value.encode("utf-8")) for name, value in verdict.headers]
    return {"type": "http.response.start", "status": verdict.status, "headers": [(b"content-length", b"0"), *told]}


def verdict_of(subject: str, answer: Answer) -> Verdict:
    """Return what is told of a decision: 200 for what is allowed, and for nothing else."""
    if answer.decision.allowed is True:
        return Verdict(200, answer.id, answer.reason, subject)
    return Verdict(403, answer.id, answer.reason)


def told_of(subject: str, answer: Answer) -> Told:
    """Return the same, as it is sent."""
    return written(verdict_of(subject, answer))


def written(verdict: Verdict) -> Told:
    """Write an answer, but for a challenge, as ``head_of`` has it written; raises ValueError for what is no header."""
    said = (verdict.decision, verdict.reason, verdict.subject)
    if not "".join(said).isprintable():
        raise ValueError("a header would end early")
    decision, reason, subject = [each.encode() for each in said]
    return Told(_WRITTEN[verdict.status] % (decision, reason, subject))
