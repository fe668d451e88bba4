"""Whatever the sidecar writes into its journal, whoever ships, shows and prunes it can read."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import fields

from ruqsat import core, service, stores, web
from ruqsat.core.journaled import read_line
from ruqsat.core.line import build_line

MOMENT = "2026-11-24T10:00:00.000000Z"


def _entries() -> dict[str, type[Struct]]:
    """Return every struct that is called an entry and says its kind, by its name."""
    modules = [
        importlib.import_module(each.name)
        for package in (core, service, web, stores)
        for each in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    ]
    found = {
        f"{each.__module__}.{each.__name__}": each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Struct) and each.__name__.endswith("Entry")
    }
    return {name: each for name, each in found.items() if {"kind", "at"} <= set(each.__struct_fields__)}


ENTRIES = _entries()


def _values(kind: Any) -> Iterator[Any]:
    """Return a value of each shape that a field may have."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for each in inner:
            yield from _values(each) if each is not NoneType else ()
    elif origin is Literal:
        yield from inner
    elif origin is tuple:
        yield tuple(next(_values(each)) for each in inner if each is not Ellipsis)
    elif origin is dict:
        yield {"a": True}
    elif hasattr(kind, "__metadata__"):
        yield from _values(inner[0])
    elif isinstance(kind, type) and issubclass(kind, Struct):
        yield kind(**{name: next(_values(each)) for name, each in get_type_hints(kind).items()})
    else:
        yield {str: "x", int: 3, bool: True, float: 0.5, Any: "x"}[kind]


def _written(kind: type[Struct]) -> Iterator[bytes]:
    """Return entries of a kind: one in which everything is said, and for each field one for each of its shapes."""
    hints = get_type_hints(kind, include_extras=True)
    usual = {each.name: next(_values(hints[each.name])) for each in fields(kind)} | {"at": MOMENT}
    for name in usual:
        for value in _values(hints[name]) if name != "at" else [MOMENT]:
            yield msgspec.json.encode(kind(**usual | {name: value}))


def test_entries_are_found() -> None:
    """None is forgotten because it stands elsewhere."""
    assert {name.rpartition(".")[2] for name in ENTRIES} >= {
        "Entry", "PolicyEntry", "ChangeEntry", "OutcomeEntry", "SearchEntry", "SessionEntry", "ReceiptEntry",
    }  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_can_be_read_whatever_it_says(name: str) -> None:
    """Each field with a value, in each shape that it may have."""
    unread = [
        entry
        for entry in _written(ENTRIES[name])
        if (said := read_line(build_line(b"0" * 64, 1, entry, ())[0])) is None or said.moment == 0
    ]

    assert unread == []
