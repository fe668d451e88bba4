"""Entries of a journal as tests make them up, and a database that holds them."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ruqsat.core.instant import parse_instant
from ruqsat.core.journaled import BEGINNING, Journaled, Lines, Place, read_line
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import SqlDuties
from tests.duties.ground import close, make

AT = "2026-11-24T10:00:00.000000Z"
NOW = parse_instant("2026-11-26T10:00:00Z")
DOCTOR: dict[str, Any] = {
    "kind": "decision", "listener": "json", "at": AT, "allowed": True, "reason": "allow.consent", "policy": "5eed",
    "subject": "dr-aliya", "roles": ["physician"], "org": "h1", "action": "read", "purpose": "TREAT",
    "patient": "p-anna", "resource_type": "Observation", "resource": "o1", "data_class": "labs", "basis": "consent",
    "rule": "consent-01", "law": ["R3"], "duties": ["notify_subject"], "applied": ["c-1"],
}  # fmt: skip


def written(number: int = 1, **said: Any) -> bytes:
    """Return the line of a physician's reading, changed; None takes a member out."""
    told = {"id": f"d-{number}"} | DOCTOR | said
    head = {"hash": f"{number:064x}", "prev": "0" * 64, "n": number}
    return (
        json.dumps(
            head | {k: v for k, v in told.items() if v is not None}, ensure_ascii=False, separators=(",", ":")
        ).encode()
        + b"\n"
    )


def entry(**said: Any) -> Journaled:
    """Return such a line as it is read."""
    found = read_line(written(**said))
    assert found is not None
    return found


def ago(minutes: float) -> str:
    """Return a moment of the past as a line says it."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def ship(store: SqlStore, writer: str, lines: Sequence[bytes]) -> None:
    """Put the lines of a writer, the first ones, into the database as its sidecar would."""
    said = [(Place(1, number), read_line(line), line) for number, line in enumerate(lines, 1)]
    batch = Lines(writer, BEGINNING, tuple(each for each in said if each[1] is not None))  # type: ignore[arg-type]
    shipped = await SqlDuties(store.background()).ship(batch, make, close, NOW)
    assert shipped.lines == len(lines)


def ship_to(url: str, **writers: Sequence[bytes]) -> None:
    """Put the lines of several writers into the database at *url*."""

    async def go() -> None:
        store = await SqlStore.open(url)
        try:
            for writer, lines in writers.items():
                await ship(store, writer, lines)
        finally:
            await store.aclose()

    asyncio.run(go())
