"""
Look-ups at a FHIR server: whose a record is, where the request does not say so.

Bounded in everything that a caller could make grow: how many are under way and
waiting, how long one may take, how many answers are kept, of what size and for how
long.  Whatever goes wrong, nothing is found.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct

from ruqsat.core.fhir.meaning import Lookup, Refused
from ruqsat.core.fhir.records import Seen, elements_of, read_record
from ruqsat.core.fhir.words import FhirWords
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.metrics import Metrics, Timings
from ruqsat.service.ports import RecordServer

OUTCOMES = {
    "found": "Look-ups that found the record and its patient",
    "kept": "Look-ups answered by what was found a moment ago",
    "absent": "Look-ups of records that the server does not have",
    "refused": "Look-ups whose answer could not be used: another record, no patient, several, one of another server",
    "failed": "Look-ups that the server did not answer as expected",
    "late": "Look-ups without an answer in time",
    "busy": "Look-ups turned away: too many under way",
}
WAITING = 4
"""For each look-up that may be under way, so many may wait for their turn."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_ENTRY_BYTES = 512
"""What an entry takes besides its texts, rounded up."""


class LookupLimits(Struct, frozen=True):
    """
    How much, how many, how long.

    Attributes:
        seconds: From the question to the answer, waiting included.
        at_once: So many under way at once.
        keep_seconds: So long an answer is used again; 0 keeps none.
    """

    seconds: float = 0.15
    at_once: int = 32
    keep_seconds: float = 5.0
    keep_entries: int = 10_000
    keep_bytes: int = 16 * 1024 * 1024


class LookupCounts:
    """Look-ups by outcome, and how long they took, over all servers."""

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.seconds = Timings(_SECONDS)

    def watch(self, metrics: Metrics) -> None:
        """Let the metrics read them."""
        for name, text in OUTCOMES.items():
            metrics.counter(f"ruqsat_fhir_lookups_{name}", text, partial(self.outcomes.__getitem__, name))
        metrics.histogram("ruqsat_fhir_lookup_seconds", "Time of a question to a FHIR server", self.seconds)


class _Kept(Struct, frozen=True):
    seen: Seen | None
    until: float
    size: int


class RecordLookup:
    """
    Look-ups at one server.

    Args:
        server: Is asked.
        url: Under which it is asked; references under it are its own.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, server: RecordServer, url: str, limits: LookupLimits, counts: LookupCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._server, self._url, self._limits, self._counts, self._clock = server, url, limits, counts, clock
        self._kept: OrderedDict[Lookup, _Kept] = OrderedDict()
        self._changing: OrderedDict[Lookup, float] = OrderedDict()
        self._size = 0
        self._turn = asyncio.Semaphore(limits.at_once)
        self._under_way: dict[Lookup, asyncio.Task[tuple[str, Seen | None]]] = {}
        self._tasks: set[asyncio.Task[tuple[str, Seen | None]]] = set()
        self._words: tuple[FhirWords, FhirWords] | None = None

    async def find(
        self, lookups: tuple[Lookup, ...], words: FhirWords, *, fresh: bool = False
    ) -> Mapping[Lookup, Seen | None]:
        """
        Return what is seen of each record; None where there is none, or none that can be used.

        Args:
            fresh: Ask anew, whatever was found a moment ago.

        Raises:
            StoreUnavailableError: the server did not answer in time, or not as expected, or too much is under way.
        """
        found = await asyncio.gather(*[self._find(each, words, fresh) for each in lookups])
        return dict(zip(lookups, found, strict=True))

    def forget(self, kind: str, name: str) -> None:
        """
        Take note that a record is about to be changed: what is known of it is dropped.

        Nothing is kept of it for the usual time, since the change may come after the next look at it.
        """
        key = Lookup(kind, name)
        self._drop(key)
        self._under_way.pop(key, None)
        self._changing[key] = self._clock() + self._limits.keep_seconds
        self._changing.move_to_end(key)
        if len(self._changing) > self._limits.keep_entries:
            self._changing.popitem(last=False)

    async def aclose(self) -> None:
        """End what is under way."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _with_own_url(self, words: FhirWords) -> FhirWords:
        """Return the words with the address that we ask under as one of this server's; new words drop all answers."""
        if self._words is None or self._words[0] is not words:
            self._kept.clear()
            self._under_way.clear()
            self._size = 0
            self._words = (words, words.with_url(self._url))
        return self._words[1]

    async def _find(self, asked: Lookup, words: FhirWords, fresh: bool) -> Seen | None:
        words = self._with_own_url(words)  # only now: others may have asked by those of another pack since
        kept = None if fresh else self._kept.get(asked)
        if kept is not None and self._clock() < kept.until:
            self._counts.outcomes["kept"] += 1
            return kept.seen
        task = self._under_way.get(asked)
        if task is None:
            if len(self._tasks) >= self._limits.at_once * (1 + WAITING):
                self._counts.outcomes["busy"] += 1
                raise StoreUnavailableError("too many look-ups are under way")
            task = self._under_way[asked] = asyncio.create_task(self._look(asked, words))
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, asked))
        # Whoever waits may go away; others may wait for the same.
        outcome, seen = await asyncio.shield(task)
        if outcome in ("failed", "late"):
            raise StoreUnavailableError("the FHIR server did not answer as expected")
        return seen

    def _done(self, asked: Lookup, task: "asyncio.Task[tuple[str, Seen | None]]") -> None:
        self._tasks.discard(task)
        if self._under_way.get(asked) is task:
            del self._under_way[asked]

    async def _look(self, asked: Lookup, words: FhirWords) -> tuple[str, Seen | None]:
        began, seen = self._clock(), None
        try:
            async with asyncio.timeout(self._limits.seconds), self._turn:
                body = await self._server.fetch_record(
                    asked.type, asked.value, asked.version, elements_of(asked.type, words)
                )
            seen = None if body is None else read_record(body, asked, words)
            outcome = "absent" if seen is None else "found"
        except Refused:
            outcome = "refused"
        except TimeoutError:
            outcome = "late"
        except StoreUnavailableError:
            outcome = "failed"
        self._counts.outcomes[outcome] += 1
        self._counts.seconds.observe(self._clock() - began)
        if outcome not in ("late", "failed") and self._words is not None and words is self._words[1]:
            self._keep(asked, seen, began)
        return outcome, seen

    def _keep(self, asked: Lookup, seen: Seen | None, began: float) -> None:
        """Keep an answer, counted from the moment of the question; versions are asked for each time."""
        until, now = began + self._limits.keep_seconds, self._clock()
        if asked.version or now >= until or now < self._changing.get(asked, now):
            return
        self._drop(asked)
        self._kept[asked] = kept = _Kept(seen, until, _size_of(asked, seen))
        self._size += kept.size
        while len(self._kept) > self._limits.keep_entries or self._size > self._limits.keep_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Lookup) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._size -= dropped.size


def _size_of(asked: Lookup, seen: Seen | None) -> int:
    texts = [asked.type, asked.value]
    if seen is not None:
        texts += [seen.patient, *seen.classes, *seen.labels]
    return _ENTRY_BYTES + sum(64 + len(text) for text in texts)
