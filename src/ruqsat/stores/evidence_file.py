"""An evidence package as a ZIP archive, and what the store holds of one person for it."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from ruqsat.core.consent_record import ConsentRow
from ruqsat.core.instant import Instant
from ruqsat.core.outgoing import Listed
from ruqsat.core.policy_release import Step
from ruqsat.core.proceeding import ProceedingRow, Wanted
from ruqsat.core.registered import KINDS, RecordRow
from ruqsat.errors import SettingsError
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.proceeding_store import ProceedingStore
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import SqlDuties

MOST_BYTES = 1 << 30
MOST_FILES = 100
PAGE = 100
_DAY_ZERO = (1980, 1, 1, 0, 0, 0)


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """
    Write a package that only our user may read; the same files make the same bytes.

    Raises:
        SettingsError: it cannot be written, or something is there already.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w+b") as sink, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, _DAY_ZERO), text, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be written: {error.strerror}") from error


def read_archive(path: Path) -> dict[str, bytes]:
    """
    Read a package.

    Raises:
        SettingsError: it is no archive of ours: unreadable, too large, or a name stands in it twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            names = {each.filename for each in listed}
            if len(names) < len(listed) or len(listed) > MOST_FILES:
                raise SettingsError(
                    f"`{path}` is no evidence package: a file stands in it twice, or there are too many"
                )
            if sum(each.file_size for each in listed) > MOST_BYTES:
                raise SettingsError(f"`{path}` is no evidence package: it is too large")
            return {each.filename: archive.read(each) for each in listed}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise SettingsError(f"`{path}` cannot be read as a package") from error


async def find_consents(store: SqlStore, patient: str) -> tuple[ConsentRow, ...]:
    """Return every full record of a consent of one person."""
    rows: list[ConsentRow] = []
    while page := await store.list_records(patient, None, rows[-1].id if rows else "", PAGE):
        rows += page
    return tuple(rows)


async def find_others(store: SqlStore, patient: str) -> tuple[RecordRow, ...]:
    """Return every record of the other registries of one person, blocks among them."""
    found: list[RecordRow] = []
    for kind in (*KINDS, "block"):
        after = ""
        while page := await store.list_registered(kind, patient, None, after, PAGE):
            found += page
            after = page[-1].id
    return tuple(found)


async def find_proceedings(
    store: SqlStore, patient: str
) -> tuple[tuple[ProceedingRow, ...], dict[str, list[tuple[str, str, int]]]]:
    """Return every proceeding about one person, and what the clock said of each."""
    kept, rows = ProceedingStore(store), list[ProceedingRow]()
    after: tuple[str, str] | None = None
    while page := await kept.queue(Wanted(patient=patient, after=after, limit=PAGE)):
        rows += page
        after = page[-1].due, page[-1].id
    return tuple(rows), {row.id: await kept.events(row.id) for row in rows}


async def find_notices(store: SqlStore, patient: str) -> tuple[Listed, ...]:
    """Return every notice about one person: who was told of what, who was not, and why."""
    rows: list[Listed] = []
    after = (-1, "")
    while page := await SqlDuties(store.background()).list_notices((), patient, after, PAGE):
        rows += page
        after = page[-1].created_at, page[-1].key
    return tuple(rows)


async def find_writers(store: SqlStore, patient: str, since: Instant, until: Instant) -> frozenset[str]:
    """Return which processes wrote the entries about one person of this time that were shipped."""
    return await SqlDuties(store.background()).writers_about(patient, since, until)


async def find_releases(store: SqlStore) -> tuple[Step, ...]:
    """Return the steps of the policy's history that the database holds; none where it comes from a folder."""
    return tuple(await PolicyStore(store).steps())
