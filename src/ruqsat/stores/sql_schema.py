"""
The tables of the truth, and how a database that holds them is recognised.

Nothing here knows a driver, a thread or a clock: functions take a Connection
that is inside a transaction, and leave it there.  Ids are compared byte by
byte: ``Foo`` and ``foo`` are two people.  How the tables came to be as they
are is told in ``migrations``; a test holds the two together.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    inspect,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ruqsat.errors import SettingsError

REVISION_TABLE = "ruqsat_revision"

metadata = MetaData()
_EXACT = Text(collation="BINARY").with_variant(Text(collation="C"), "postgresql")
_NUMBER = Integer().with_variant(BigInteger(), "postgresql")
_INDEXED_BYTES = 2048
"""A row of an index of PostgreSQL holds no more than 2,704, and no text of it a NUL."""


def indexed(text: str | None) -> str | None:
    """
    Return a caller's word as a column of an index can hold it on either database; None for one that it cannot.

    Examples:
        >>> indexed("p-dana"), indexed("a\\0b"), indexed("x" * 4000)
        ('p-dana', None, None)
    """
    if text is None or "\0" in text:
        return None
    is_short = len(text) <= _INDEXED_BYTES // 4  # a letter takes four bytes at most
    return text if is_short or len(text.encode()) <= _INDEXED_BYTES else None


feed_head = Table(
    "feed_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("epoch", _EXACT, nullable=False),
    Column("seq", _NUMBER, nullable=False),
    sqlite_strict=True,
)

feed = Table(
    "feed",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    Column("key", _EXACT, nullable=False),
    Column("kind", Integer, nullable=False),
    sqlite_strict=True,
)


def _facts_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", _EXACT, primary_key=True),
        Column("version", _NUMBER, nullable=False),
        Column("body", LargeBinary, nullable=False),
        sqlite_strict=True,
    )


subject_facts = _facts_table("subject_facts")
patient_facts = _facts_table("patient_facts")

document = Table(
    "document",
    metadata,
    Column("id", _EXACT, primary_key=True),
    Column("patient", _EXACT, nullable=False),
    Column("kind", _EXACT, primary_key=True),
    Index("document_by_patient", "patient"),
    sqlite_strict=True,
)

consent_record = Table(
    "consent_record",
    metadata,
    Column("id", _EXACT, primary_key=True),
    Column("patient", _EXACT, nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("status", _EXACT, nullable=False),
    Column("effect", _EXACT, nullable=False),
    Column("thread", _EXACT, nullable=False),
    Column("org", _EXACT),
    Column("owner_tag", LargeBinary),
    Column("created_at", _NUMBER, nullable=False),
    Column("updated_at", _NUMBER, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_at", _NUMBER, nullable=False),
    Index("consent_record_by_patient", "patient", "id"),
    Index("consent_record_by_owner", "owner_tag"),
    Index("consent_record_by_change", "updated_at"),
    sqlite_strict=True,
)

record = Table(
    "record",
    metadata,
    Column("kind", _EXACT, primary_key=True),
    Column("id", _EXACT, primary_key=True),
    Column("patient", _EXACT, nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("status", _EXACT, nullable=False),
    Column("org", _EXACT),
    Column("created_at", _NUMBER, nullable=False),
    Column("updated_at", _NUMBER, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_at", _NUMBER, nullable=False),
    Index("record_by_patient", "patient", "kind", "id"),
    sqlite_strict=True,
)

proceeding = Table(
    "proceeding",
    metadata,
    Column("id", _EXACT, primary_key=True),
    Column("kind", _EXACT, nullable=False),
    Column("patient", _EXACT),
    Column("org", _EXACT),
    Column("owner", _EXACT),
    Column("version", _NUMBER, nullable=False),
    Column("status", _EXACT, nullable=False),
    Column("stage", _NUMBER, nullable=False),
    Column("is_open", Integer, nullable=False),
    Column("received_on", _EXACT, nullable=False),
    Column("due", _EXACT, nullable=False),
    Column("warn_on", _EXACT, nullable=False),
    Column("outer_due", _EXACT, nullable=False),
    Column("calendar", _EXACT, nullable=False),
    Column("created_at", _NUMBER, nullable=False),
    Column("updated_at", _NUMBER, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_at", _NUMBER, nullable=False),
    Index("proceeding_by_due", "is_open", "due", "id"),
    Index("proceeding_by_patient", "patient", "due", "id"),
    sqlite_strict=True,
)

proceeding_event = Table(
    "proceeding_event",
    metadata,
    Column("proceeding", _EXACT, primary_key=True),
    Column("event", _EXACT, primary_key=True),
    Column("due", _EXACT, nullable=False),
    Column("at", _NUMBER, nullable=False),
    sqlite_strict=True,
)

break_glass = Table(
    "break_glass",
    metadata,
    Column("id", _EXACT, primary_key=True),
    Column("subject", _EXACT, nullable=False),
    Column("patient", _EXACT, nullable=False),
    Column("org", _EXACT),
    Column("ward", _EXACT),
    Column("opened_at", _NUMBER, nullable=False),
    Column("due", _NUMBER, nullable=False),
    Column("anomaly", _EXACT, nullable=False),
    Column("overdue_at", _NUMBER),
    Column("settled_at", _NUMBER),
    Index("break_glass_by_subject", "subject", "opened_at"),
    Index("break_glass_by_ward", "ward", "opened_at"),
    Index("break_glass_by_patient", "patient", "opened_at"),
    Index("break_glass_by_due", "settled_at", "due", "id"),
    sqlite_strict=True,
)

break_glass_right = Table(
    "break_glass_right",
    metadata,
    Column("id", _EXACT, primary_key=True),
    Column("subject", _EXACT, nullable=False),
    Column("at", _NUMBER, nullable=False),
    Column("event", _EXACT, nullable=False),
    Column("cause", _EXACT, nullable=False),
    Column("session", _EXACT, nullable=False),
    Column("by", _EXACT),
    Index("break_glass_right_by_subject", "subject", "at"),
    sqlite_strict=True,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("at", _NUMBER, nullable=False),
    Index("idempotency_by_age", "at"),
    sqlite_strict=True,
)

policy_pack = Table(
    "policy_pack",
    metadata,
    Column("address", _EXACT, primary_key=True),
    Column("digest", _EXACT, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_strict=True,
)

policy_step = Table(
    "policy_step",
    metadata,
    Column("generation", _NUMBER, primary_key=True, autoincrement=False),
    Column("kind", _EXACT, nullable=False),
    Column("address", _EXACT, nullable=False),
    Column("author", _EXACT, nullable=False),
    Column("reason", _EXACT, nullable=False),
    Column("approval", _EXACT),
    Column("at", _NUMBER, nullable=False),
    Column("must_apply", Integer, nullable=False),
    Column("changes", LargeBinary, nullable=False),
    sqlite_strict=True,
)

policy_report = Table(
    "policy_report",
    metadata,
    Column("sidecar", _EXACT, primary_key=True),
    Column("at", _NUMBER, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_strict=True,
)

sidecar = Table(
    "sidecar",
    metadata,
    Column("id", _EXACT, primary_key=True),
    Column("epoch", _EXACT, nullable=False),
    Column("applied", _NUMBER, nullable=False),
    Column("lease", _NUMBER, nullable=False),
    Column("beat", _NUMBER, nullable=False),
    Column("seen_at", _NUMBER, nullable=False),
    sqlite_strict=True,
)

facts_import = Table(
    "facts_import",
    metadata,
    Column("subject", Integer, nullable=False),
    Column("id", _EXACT, nullable=False),
    Column("line", _NUMBER, nullable=False),
    Column("state", Integer, nullable=False),
    Column("set_aside", Integer, nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_strict=True,
)

facts_import_document = Table(
    "facts_import_document",
    metadata,
    Column("id", _EXACT, nullable=False),
    Column("patient", _EXACT, nullable=False),
    Column("kind", _EXACT, nullable=False),
    Column("line", _NUMBER, nullable=False),
    sqlite_strict=True,
)

facts_import_run = Table(
    "facts_import_run",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("source", LargeBinary, nullable=False),
    Column("place", _NUMBER, nullable=False),
    Column("line", _NUMBER, nullable=False),
    Column("subjects", _NUMBER, nullable=False),
    Column("patients", _NUMBER, nullable=False),
    sqlite_strict=True,
)

# On PostgreSQL it is partitioned by the month of `at` (see `sql_journal_months`), which its primary key must then
# contain: that a line is there once rests on `journal_cursor`, on both.  There is an index of `documents`, too.
journal_entry = Table(
    "journal_entry",
    metadata,
    Column("writer", _EXACT, primary_key=True),
    Column("segment", _NUMBER, primary_key=True, autoincrement=False),
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("at", _NUMBER, nullable=False),
    Column("kind", _EXACT, nullable=False),
    Column("entry", _EXACT),
    Column("patient", _EXACT),
    Column("subject", _EXACT),
    Column("org", _EXACT),
    Column("action", _EXACT),
    Column("data_class", _EXACT),
    Column("allowed", Integer),
    Column("reason", _EXACT),
    Column("rule", _EXACT),
    Column("basis", _EXACT),
    Column("documents", _EXACT),
    Column("degraded", Integer, nullable=False),
    Column("line", LargeBinary, nullable=False),
    Index("journal_entry_by_patient", "patient", "at"),
    Index("journal_entry_by_subject", "subject", "at"),
    Index("journal_entry_by_org", "org", "at"),
    Index("journal_entry_by_rule", "rule", "at"),
    Index("journal_entry_by_entry", "entry"),
    sqlite_strict=True,
)

journal_beside = Table(
    "journal_beside",
    metadata,
    Column("patient", _EXACT, primary_key=True),
    Column("writer", _EXACT, primary_key=True),
    Column("segment", _NUMBER, primary_key=True, autoincrement=False),
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sqlite_strict=True,
)

journal_cursor = Table(
    "journal_cursor",
    metadata,
    Column("writer", _EXACT, primary_key=True),
    Column("segment", _NUMBER, nullable=False),
    Column("number", _NUMBER, nullable=False),
    sqlite_strict=True,
)

journal_erased = Table(
    "journal_erased",
    metadata,
    Column("part", _EXACT, primary_key=True),
    Column("act", _EXACT, nullable=False),
    Column("at", _NUMBER, nullable=False),
    sqlite_strict=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("key", _EXACT, primary_key=True),
    Column("state", _EXACT, nullable=False),
    Column("kind", _EXACT, nullable=False),
    Column("audience", _EXACT, nullable=False),
    Column("patient", _EXACT),
    Column("recipient", _EXACT),
    Column("org", _EXACT),
    Column("entry", _EXACT, nullable=False),
    Column("channel", _EXACT),
    Column("reason", _EXACT),
    Column("legal_ground", _EXACT),
    Column("due", _NUMBER, nullable=False),
    Column("deferred_until", _NUMBER),
    Column("attempts", Integer, nullable=False),
    Column("next_at", _NUMBER, nullable=False),
    Column("claim", _EXACT),
    Column("created_at", _NUMBER, nullable=False),
    Column("settled_at", _NUMBER),
    Column("body", LargeBinary, nullable=False),
    Index("outbox_by_next", "state", "next_at"),
    Index("outbox_by_patient", "patient", "created_at"),
    Index("outbox_by_entry", "entry"),
    sqlite_strict=True,
)

patient_channel = Table(
    "patient_channel",
    metadata,
    Column("patient", _EXACT, primary_key=True),
    Column("channel", _EXACT, nullable=False),
    Column("changed_at", _NUMBER, nullable=False),
    sqlite_strict=True,
)

meta = Table(
    "meta",
    metadata,
    Column("name", _EXACT, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_strict=True,
)


class timeline(FunctionElement[str]):  # noqa: N801 - it is called as a function of SQL
    """
    Which history of its cluster a database is on: part of the epoch.

    A standby that is promoted begins a new one, and may lack the last commits
    of the old: positions of the two must not be compared.  Null on a standby;
    the empty text on SQLite, which has one history.
    """

    type = Text()
    inherit_cache = True


@compiles(timeline)
def _one_history(_element: timeline, _compiler: Any, **_: Any) -> str:
    return "''"


@compiles(timeline, "postgresql")
def _history_of_cluster(_element: timeline, _compiler: Any, **_: Any) -> str:
    number = "lower(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))"
    return f"(CASE WHEN pg_is_in_recovery() THEN NULL ELSE {number} END)"


def read_token_key(connection: Connection) -> bytes:
    """
    Return the key that consistency tokens are sealed with.

    Raises:
        SettingsError: it is lost, and must not be made up anew.
    """
    key: bytes | None = connection.execute(select(meta.c.value).where(meta.c.name == "token_key")).scalar_one_or_none()
    if key is None:
        raise SettingsError("the database has lost its token key, expected one made at its creation")
    return key


def read_revision(connection: Connection) -> str | None:
    """
    Return the revision that the tables are at; None for an empty database.

    Raises:
        SettingsError: the database is another program's.
    """
    tables = set(inspect(connection).get_table_names())
    if REVISION_TABLE in tables:
        return str(connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}").scalar_one())  # noqa: S608
    if tables:
        raise SettingsError("the database belongs to another program, expected an empty one or one of ours")
    return None
