"""
Many rows by one call of the driver, whatever their number: put into a table, or found by their names.

SQLAlchemy looks at each value of each row, at several times what the driver asks for
it; whoever brings hundreds of rows at a time hands them over as they are.  SQLite takes
them one by one below the interpreter, PostgreSQL as one array for each column.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import ARRAY, Column, Connection, Dialect, Table, Text, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeEngine


class _Names(TypeDecorator[Collection[str]]):
    impl, cache_ok = Text, True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> Any:
        names = list(value or ())
        return names if dialect.name == "postgresql" else msgspec.json.encode(names).decode()


class among(FunctionElement[Any]):  # noqa: N801 - it is called as a function of SQL
    """Whether the text of *column* is one of those given as *names*: one parameter, however many they are."""

    type = NullType()  # of a Boolean SQLite would be asked whether it is 1, and look through the table
    inherit_cache = True

    def __init__(self, column: Column[Any], names: str) -> None:
        """Take the texts from the parameter called *names*."""
        super().__init__(column, bindparam(names, type_=_Names()))


@compiles(among)
def _of_json(element: among, compiler: Any, **more: Any) -> str:
    column, names = [compiler.process(each, **more) for each in element.clauses]
    return f"{column} IN (SELECT value FROM json_each({names}))"  # noqa: S608


@compiles(among, "postgresql")
def _of_array(element: among, compiler: Any, **more: Any) -> str:
    column, names = [compiler.process(each, **more) for each in element.clauses]
    return f"{column} = ANY ({names})"


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
