"""A change of the record key: every record is sealed anew, whenever that is stopped, whoever writes meanwhile."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from tests.registry.documents import OWNER, consent
from tests.registry.test_changes import ABOUT

from ruqsat.core.consent_record import Change, ConsentRow
from ruqsat.core.consent_signature import Examined
from ruqsat.core.facts import PatientFacts
from ruqsat.core.registered import Body, RecordRow
from ruqsat.errors import SettingsError
from ruqsat.service import record_changes
from ruqsat.service.consent_changes import new_row, resealed, unsealed
from ruqsat.service.record_seal import RecordSeal, RecordUnreadableError
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_reseal import Resealed, reseal_records
from ruqsat.web.consent_models import ConsentIn, read_model

OLD, NEW = bytes(range(32)), bytes(32)
BEFORE, BOTH, AFTER = RecordSeal(OLD), RecordSeal(NEW, OLD), RecordSeal(NEW)
DATA = read_model(ConsentIn, json.dumps(consent()).encode())


def record(url: str, seals: list[RecordSeal]) -> None:
    """Record a consent under each of these seals."""

    async def run() -> None:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        await store.record_facts((), (PatientFacts(id="p-dana"),))
        for number, seal in enumerate(seals):
            row = new_row(f"c{number:03}", DATA, False, msgspec.structs.replace(ABOUT, seal=seal, examined=Examined()))
            await store.change_records("p-dana", (), None, lambda facts, *_, row=row: Change(b"{}", (row,), facts))
        await store.aclose()

    asyncio.run(run())


def rows(url: str) -> list[ConsentRow]:
    """Return every record."""

    async def run() -> list[ConsentRow]:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        try:
            return await store.list_records("p-dana", None, "", 1000)
        finally:
            await store.aclose()

    return asyncio.run(run())


def reseal(url: str, batch: int = 4, with_: Callable[[ConsentRow], Any] | None = None) -> Resealed:
    """Seal every record anew."""
    return asyncio.run(reseal_records(url, with_ or partial(resealed, seal=BOTH), batch))


def test_every_record_opens_under_the_new_key_alone(url: str) -> None:
    """Seal and tag are new, nothing else is; what was under it already is left alone; a second run finds nothing."""
    record(url, [BEFORE] * 9 + [BOTH] * 2)
    before = rows(url)
    told = reseal(url)
    after = rows(url)

    assert told == Resealed(resealed=9, current=2) and reseal(url) == Resealed(current=11)
    assert {row.owner_tag for row in after} == {AFTER.tag("owner", OWNER.encode())}
    for old, new in zip(before, after, strict=True):
        assert unsealed(new, AFTER) == unsealed(old, BOTH)
        assert msgspec.structs.replace(new, sealed=b"", owner_tag=b"") == msgspec.structs.replace(
            old, sealed=b"", owner_tag=b""
        )
    assert [row.sealed for row in after[9:]] == [row.sealed for row in before[9:]]


def test_it_may_be_stopped_anywhere_and_run_again(url: str) -> None:
    """Whole batches stay, the one in the middle does not; the rest is done the next time."""
    record(url, [BEFORE] * 10)

    def stops(row: ConsentRow) -> ConsentRow | None:
        if row.id == "c006":
            raise InterruptedError
        return resealed(row, BOTH)

    with pytest.raises(InterruptedError):
        reseal(url, 4, stops)
    assert [BOTH.is_current(row.sealed) for row in rows(url)] == [True] * 4 + [False] * 6
    assert reseal(url) == Resealed(resealed=6, current=4)


def test_what_opens_under_no_key_is_counted_and_left(url: str) -> None:
    """A record that opens under no key is counted and left as it is: nothing is lost by trying."""
    record(url, [BEFORE, RecordSeal(b"x" * 32), BEFORE])
    strange = rows(url)[1]

    assert reseal(url) == Resealed(resealed=2, unreadable=1)
    assert rows(url)[1] == strange


def test_what_somebody_changes_meanwhile_is_not_overwritten(url: str) -> None:
    """A record that is not as it was read is left as it is, and told."""
    record(url, [BEFORE] * 2)

    def stale(row: ConsentRow) -> ConsentRow | None:
        new = resealed(row, BOTH)
        if row.id == "c001":
            msgspec.structs.force_setattr(row, "version", 7)  # pretend that another version was read
        return new

    assert reseal(url, 4, stale) == Resealed(resealed=1, changed=1)
    assert [BOTH.is_current(row.sealed) for row in rows(url)] == [True, False]


def test_a_seal_opens_under_the_key_before_and_closes_under_the_new_one() -> None:
    """Tags come under both, the newest first; the new key alone opens nothing of the old one; twice one key is none."""
    box = BEFORE.close(b"text", "p1", "c1", 1)
    new = BOTH.close(b"text", "p1", "c1", 1)

    assert BOTH.open(box, "p1", "c1", 1) == BOTH.open(new, "p1", "c1", 1) == AFTER.open(new, "p1", "c1", 1) == b"text"
    assert (BOTH.is_current(box), BOTH.is_current(new)) == (False, True)
    assert BOTH.tags("owner", b"1") == (AFTER.tag("owner", b"1"), BEFORE.tag("owner", b"1"))
    for seal, sealed in ((AFTER, box), (BEFORE, new)):
        with pytest.raises(RecordUnreadableError):
            seal.open(sealed, "p1", "c1", 1)
    with pytest.raises(SettingsError, match="the same"):
        RecordSeal(OLD, OLD)


def test_the_other_registries_are_sealed_anew_too(url: str) -> None:
    """Over several batches and kinds; under the new key alone each opens, with what it held; a block seals nothing."""

    def kept(kind: str, id_: str, seal: RecordSeal) -> RecordRow:
        box = seal.close(b'{"document":"%b"}' % id_.encode(), "p-dana", f"{kind}|{id_}", 1)
        return RecordRow(kind, id_, "p-dana", 1, "active", None, 1, 1, Body({}, (), ()), box, 1)

    block = RecordRow("block", "b-1", "p-dana", 1, "blocked", None, 1, 1, Body({}, (), ()), b"", 1)
    made = [kept(kind, f"r{n}", BEFORE if n else AFTER) for kind in ("delegation", "representation") for n in range(4)]

    async def write() -> None:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        await store.record_facts((), (PatientFacts(id="p-dana"),))
        for row in (*made, block):
            await store.change_records(
                "p-dana", (), None, lambda facts, *_, row=row: Change(b"{}", (row,), facts), row.kind
            )
        await store.aclose()

    async def read() -> list[RecordRow]:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        try:
            return [
                row for row in [await store.find_registered(each.kind, each.id) for each in made] if row is not None
            ]
        finally:
            await store.aclose()

    asyncio.run(write())
    again = partial(record_changes.resealed, seal=BOTH)
    assert reseal(url, 3, again) == Resealed(resealed=6, current=3)
    assert reseal(url, 3, again) == Resealed(current=9)
    assert [record_changes.unsealed(row, AFTER)["document"] for row in asyncio.run(read())] == [row.id for row in made]
