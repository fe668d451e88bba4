"""
A policy pack: the texts of one folder, checked and compiled, or refused with every finding.

A pack is ``model.conf``, ``policies/vocabulary.toml``, ``policies/laws.toml`` and
``policies/*.csv``; its digest covers name and bytes of each.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ruqsat.core.check import check_pack
from ruqsat.core.compile import compile_policy_set
from ruqsat.core.diagnostics import Diagnostic, Span, has_errors, in_order
from ruqsat.core.functions import build_functions
from ruqsat.core.hierarchy import Hierarchies
from ruqsat.core.laws import Law, parse_laws
from ruqsat.core.model_conf import Model, parse_model
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.rows import Row, parse_rows
from ruqsat.core.scopes import read_coded
from ruqsat.core.spreadsheet import read_text
from ruqsat.core.vocabulary import Vocabulary, parse_vocabulary, with_kinds, with_switches

Parsed = TypeVar("Parsed")

MODEL, VOCABULARY, LAWS = "model.conf", "policies/vocabulary.toml", "policies/laws.toml"
ROUTES = "policies/routes.toml"


class Parts(Struct, frozen=True):
    """A pack, read and checked, before it is compiled."""

    digest: str
    model: Model
    vocabulary: Vocabulary
    laws: dict[str, Law]
    rows: tuple[Row, ...]


def load_pack(texts: Mapping[str, bytes]) -> tuple[PolicySet | None, list[Diagnostic]]:
    """
    Check and compile a pack.

    Args:
        texts: File contents by path relative to the pack's folder.

    Returns:
        The policy set, or None if any finding is an error; and all findings, in order.
    """
    parts, findings = read_parts(texts)
    return (None if parts is None else compile_parts(parts)), findings


def read_parts(texts: Mapping[str, bytes]) -> tuple[Parts | None, list[Diagnostic]]:
    """Read and check a pack; None if any finding is an error."""
    findings = [
        Diagnostic(
            Span(name), "unread-file", "the name ends in neither `.csv` nor `.toml`, so nothing in it would count",
            f"name it `{name.rpartition('/')[2].lower().removesuffix('.txt')}`, or take it out of the folder",
        )
        for name in texts
        if name != MODEL and not name.endswith((".csv", ".toml"))
    ]  # fmt: skip
    model = _read(texts, MODEL, parse_model, findings)
    vocabulary = _read(texts, VOCABULARY, parse_vocabulary, findings)
    laws = _read(texts, LAWS, parse_laws, findings)
    if model is None or vocabulary is None or laws is None:
        return None, in_order(findings)
    kinds = row_kinds(model)
    files: dict[str, list[Row]] = {}
    for name in sorted(texts):
        if name.startswith("policies/") and name.endswith(".csv"):
            files[name], found = parse_rows(texts[name], name, kinds)
            findings += found
    vocabulary = msgspec.structs.replace(vocabulary, coded=read_coded(texts.get(ROUTES, b"").decode(errors="replace")))
    rows = tuple(row for file in files.values() for row in file)
    parts = Parts(digest_of(texts), model, vocabulary, laws, rows)
    findings = in_order([*findings, *check_parts(parts, files)])
    return (None if has_errors(findings) else parts), findings


def check_parts(parts: Parts, files: dict[str, list[Row]]) -> list[Diagnostic]:
    """Return what is wrong with the rows of a pack, which stand in these files."""
    hierarchies = hierarchies_of(parts.rows)
    functions = build_functions(parts.vocabulary, hierarchies)
    return check_pack(parts.model, files, parts.vocabulary, parts.laws, functions, hierarchies)


def compile_parts(parts: Parts) -> PolicySet:
    """Compile what was checked."""
    hierarchies = hierarchies_of(parts.rows)
    vocabulary = with_kinds(parts.vocabulary, hierarchies.labels)
    functions = build_functions(vocabulary, hierarchies)
    return compile_policy_set(parts.digest, parts.model, parts.rows, vocabulary, parts.laws, functions, hierarchies)


def variants_of(parts: Parts) -> Callable[[Mapping[str, Any]], PolicySet]:
    """
    Return a function that compiles the same rules under other positions of switches.

    It raises ``msgspec.ValidationError`` for a switch that does not exist or a position of the wrong kind.
    """
    known: dict[str, PolicySet] = {}

    def variant(switches: Mapping[str, Any]) -> PolicySet:
        key = repr(sorted(switches.items()))
        if key not in known:
            vocabulary = with_switches(parts.vocabulary, switches)
            known[key] = compile_parts(msgspec.structs.replace(parts, vocabulary=vocabulary))
        return known[key]

    return variant


def hierarchies_of(rows: Iterable[Row]) -> Hierarchies:
    """Return the hierarchies that the ``g`` rows write down."""
    links: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row.kind[0] == "g":
            links.setdefault(row.kind, []).append((row.text("member"), row.text("group")))
    return Hierarchies(links)


def row_kinds(model: Model) -> dict[str, tuple[str, ...]]:
    """Return the columns of every kind of row that a file of this model may hold."""
    kinds = {"p" + suffix: section.columns for suffix, section in model.sections.items()}
    return kinds | dict.fromkeys(model.hierarchies, ("member", "group"))


def digest_of(texts: Mapping[str, bytes]) -> str:
    """
    Return the content address of the rules: SHA-256 over length-prefixed names and bytes.

    Cases and fixtures are left out: they promise, they do not decide.
    """
    digest = hashlib.sha256()
    for name in sorted(texts):
        if name.endswith(".test.toml") or name.startswith("policies/fixtures/"):
            continue
        for part in (name.encode(), texts[name]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def _read(
    texts: Mapping[str, bytes],
    name: str,
    parse: Callable[[str, str], tuple[Parsed | None, list[Diagnostic]]],
    findings: list[Diagnostic],
) -> Parsed | None:
    if name not in texts:
        findings.append(Diagnostic(Span(name), "missing-file", "the file is missing", "a pack needs it"))
        return None
    text, found = read_text(texts[name], name)
    findings += found
    if text is None:
        return None
    value, found = parse(text, name)
    findings += found
    return value
