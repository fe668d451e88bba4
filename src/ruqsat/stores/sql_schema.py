"""
The tables of the truth, and how a database is made or recognised.

Nothing here knows a driver, a thread or a clock: functions take a Connection
that is inside a transaction, and leave it there.  Ids are compared byte by
byte: ``Foo`` and ``foo`` are two people.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
)

from ruqsat.errors import SettingsError

SCHEMA_VERSION = b"1"

metadata = MetaData()
_EXACT = Text(collation="BINARY")

feed_head = Table(
    "feed_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("epoch", _EXACT, nullable=False),
    Column("seq", Integer, nullable=False),
    sqlite_strict=True,
)

feed = Table(
    "feed",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("key", _EXACT, nullable=False),
    Column("kind", Integer, nullable=False),
    sqlite_strict=True,
)


def _facts_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", _EXACT, primary_key=True),
        Column("version", Integer, nullable=False),
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

meta = Table(
    "meta",
    metadata,
    Column("name", _EXACT, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_strict=True,
)


def ensure_schema(connection: Connection, epoch: str, token_key: bytes) -> bytes:
    """
    Make an empty database ours, or recognise one that is; return its token key.

    *epoch* and *token_key* are used only when the database is empty.

    Raises:
        SettingsError: the database is another program's, or of another version of ours.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        _create(connection, epoch, token_key)
        return token_key
    if meta.name not in tables:
        raise SettingsError("the database belongs to another program, expected an empty one or one of ours")
    known: dict[str, bytes] = {row.name: row.value for row in connection.execute(select(meta))}
    version = known.get("schema_version", b"unknown")
    if version != SCHEMA_VERSION:
        found, wanted = version.decode("ascii", "replace"), SCHEMA_VERSION.decode()
        raise SettingsError(f"the database has schema `{found}`, expected `{wanted}` in this version")
    if "token_key" not in known:
        raise SettingsError("the database has lost its token key, expected one made at its creation")
    return known["token_key"]


def _create(connection: Connection, epoch: str, token_key: bytes) -> None:
    metadata.create_all(connection)
    connection.execute(insert(feed_head).values(id=1, epoch=epoch, seq=0))
    rows = [
        {"name": "schema_version", "value": SCHEMA_VERSION},
        {"name": "token_key", "value": token_key},
    ]
    connection.execute(insert(meta), rows)
