"""
Many rows into a table by one call of the driver, whatever their number.

SQLAlchemy looks at each value of each row, at several times what the driver asks for
it; whoever brings hundreds of rows at a time hands them over as they are.  SQLite takes
them one by one below the interpreter, PostgreSQL as one array for each column.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, unless_there: str = ""
) -> int:
    """
    Insert *rows*, all of the same columns in the same order, and return how many were.

    Args:
        unless_there: The column that names a row: whose name is taken is passed by.
    """
    if not rows:
        return 0
    names, values = tuple(rows[0]), [tuple(each.values()) for each in rows]
    if connection.dialect.name == "postgresql":
        statement = _of_arrays(table, names, connection.dialect) + _unless(unless_there)
        return connection.exec_driver_sql(
            statement, tuple([list(column) for column in zip(*values, strict=True)])
        ).rowcount
    return connection.exec_driver_sql(_of_rows(table, names) + _unless(unless_there), values).rowcount


def _unless(key: str) -> str:
    return f" ON CONFLICT ({key}) DO NOTHING" if key else ""


@lru_cache(maxsize=16)
def _of_rows(table: Table, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608


@lru_cache(maxsize=16)
def _of_arrays(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    types = [table.c[name].type.dialect_impl(dialect).compile(dialect).partition(" ")[0] for name in names]
    arrays = ", ".join(f"%b::{each}[]" for each in types)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays})"  # noqa: S608
