"""A plug-in of the tests: it calls every signature under GOST verified, or does whatever a test wants of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ruqsat.core.instant import Instant
from ruqsat.core.signature_finding import Finding, SignedContent
from tests.registry.documents import OWNER
from tests.signatures.pki import SIGNED, instant

FOUND = Finding(
    iin=OWNER, serial="7", signed_at=instant(SIGNED), valid_from=instant(SIGNED - timedelta(days=9)),
    valid_to=instant(SIGNED + timedelta(days=9)), algorithm="GOST", digest="ab" * 64,
)  # fmt: skip


class Fake:
    """Finds what it is told to."""

    def __init__(self, found: Callable[[], Any]) -> None:
        self.found = found

    def verify(self, signature: bytes, content: SignedContent, at: Instant) -> Any:
        """Return it."""
        return self.found()


def make() -> Fake:
    """Make a plug-in."""
    return Fake(lambda: FOUND)


def fail() -> Fake:
    """Make none."""
    raise RuntimeError("CANARY")


def empty() -> object:
    """Make a thing that verifies nothing."""
    return object()
