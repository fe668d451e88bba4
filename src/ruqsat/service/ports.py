"""
What the use cases need of the world, as shapes.

Stores match these by shape and never import this module.
"""

from collections.abc import Awaitable, Iterable
from typing import Protocol

from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.core.instant import Instant, Now
from ruqsat.core.kept_facts import Known


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> Now:
        """Return the present moment for decisions."""
        ...

    def boottime(self) -> Instant:
        """Return time since boot, suspension included; for leases, never for decisions."""
        ...


class FactsStore(Protocol):
    """The truth about subjects and patients, with the position it was read at."""

    async def fetch_facts(
        self, subject: str | None, patient: str | None
    ) -> tuple[SubjectFacts | None, PatientFacts | None, Position]:
        """
        Read both, and the position, in ONE snapshot.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    async def record_facts(
        self, subjects: tuple[SubjectFacts, ...], patients: tuple[PatientFacts, ...]
    ) -> tuple[Position, tuple[str, ...]]:
        """
        Replace the facts of these subjects and patients in one transaction.

        Returns:
            The position of the commit, and the touched keys (``subject:…``, ``patient:…``).

        Raises:
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
        """
        ...


class RecordServer(Protocol):
    """A FHIR server, asked for one record at a time."""

    async def fetch_record(self, kind: str, name: str, version: str, elements: tuple[str, ...]) -> bytes | None:
        """
        Return the record (its newest version if *version* is empty) in bytes, None where the server has none.

        Args:
            elements: What is needed of it; a server may send more.

        Raises:
            StoreUnavailableError: it answered otherwise, or not at all.
        """
        ...


class Journal(Protocol):
    """The durable, tamper-evident record of decisions."""

    def append(
        self, entry: bytes, personal: tuple[bytes, ...] = (), *, emergency: bool = False,
        facts: Iterable[Known | None] = (),
    ) -> Awaitable[None]:  # fmt: skip
        """
        Append one entry (a JSON object, encoded) in call order.

        Args:
            personal: What of it names people: JSON objects, each of which can be erased for itself.
            emergency: It may be kept in the reserve when the disk is full.
            facts: What it was decided by, which the journal then keeps as well, once for each content.

        The returned awaitable is done when the entry is on stable storage
        (``durable``) or accepted (``lossy``, which is named so and off by default).

        Raises:
            JournalError: the entry is not, and will not be, on stable storage.
        """
        ...

    async def aclose(self) -> None:
        """Make everything accepted durable, then close."""
        ...


class Information(Protocol):
    """The policy information point, as the decision point needs it."""

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return facts that are known and usable at this instant, without waiting."""
        ...

    async def fetch(self, subject: str | None, patient: str | None, token: Position | None = None) -> Facts:
        """Read facts from the truth, at least as fresh as *token*; raises StoreUnavailableError."""
        ...

    def usable(self, facts: Facts, subject: str | None, patient: str | None, token: Position | None = None) -> bool:
        """Tell whether nothing is known to have changed since the facts were read, and the lease holds."""
        ...

    def last_known(self, subject: str | None, patient: str | None, *, presumed: bool = False) -> Facts | None:
        """Return what was known while the store was last heard, for degraded mode; None if that is not on."""
        ...

    def is_last_known(self, facts: Facts, subject: str | None, patient: str | None) -> bool:
        """Tell whether such facts may be used at this very moment."""
        ...

    @property
    def position(self) -> Position:
        """How far this process knows the truth."""
        ...


class Tokens(Protocol):
    """Consistency tokens: sealed positions."""

    def issue_token(self, position: Position) -> str:
        """Return the token of *position*."""
        ...

    def read_token(self, text: str) -> Position:
        """Return the position in *text*; raises RequestError for one that is not ours."""
        ...
