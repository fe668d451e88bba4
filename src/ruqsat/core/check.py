"""
Everything that can be known of a pack from its text alone: rows × vocabulary × laws → findings.

Nothing about a policy is discovered at request time.  A finding says where, what
and what to do; all of them are collected.
"""

from collections.abc import Iterator

from ruqsat.core.case import ActionView, ContextView, ResourceView, SubjectView
from ruqsat.core.check_expression import check_expression
from ruqsat.core.check_row import check_row, known_words
from ruqsat.core.compile import KEY, ROW_ATTRIBUTES
from ruqsat.core.diagnostics import Diagnostic, Span, nearest
from ruqsat.core.expression import (
    Attribute,
    Call,
    Column,
    Entity,
    EvalCell,
    conjuncts,
    walk,
)
from ruqsat.core.function import Function
from ruqsat.core.hierarchy import MAX_LINKS, Hierarchies
from ruqsat.core.laws import Law
from ruqsat.core.model_conf import Model, Section
from ruqsat.core.request import ActionProperties, ResourceProperties, SubjectProperties
from ruqsat.core.rows import Row
from ruqsat.core.validity import IMPERSONAL
from ruqsat.core.vocabulary import BLOCKING_DUTIES, Switches, Vocabulary

_ENTITIES: dict[str, tuple[type, tuple[str, ...]]] = {
    "sub": (SubjectView, SubjectProperties.__struct_encode_fields__),
    "act": (ActionView, ActionProperties.__struct_encode_fields__),
    "res": (ResourceView, ResourceProperties.__struct_encode_fields__),
    "ctx": (ContextView, ()),
}
"""By entity: what has its attributes, and the names that are taken on the wire."""

_TOLD = frozenset({"priority", "id", "eft", "basis", "duties", "law", "document", "delegation", "grant", "node"})
"""Columns that order, name and explain rows; all others narrow them."""


def check_pack(
    model: Model,
    files: dict[str, list[Row]],
    vocabulary: Vocabulary,
    laws: dict[str, Law],
    functions: dict[str, Function],
    hierarchies: Hierarchies,
) -> list[Diagnostic]:
    """Return every finding about rows that could be read; never raises for an author's mistake."""
    findings = [*_model(model, vocabulary, functions), *_own_words(vocabulary), *_positions(vocabulary)]
    known, sound = known_words(vocabulary), set[str]()
    for file, rows in files.items():
        findings += _one_kind(file, rows)
        findings += _band(rows)
        findings += _in_order(rows)
        for row in rows:
            findings += check_row(file, row, vocabulary, laws, functions, known, sound)
    findings += _across(files)
    for key, hierarchy in hierarchies.by_key.items():
        if hierarchy.too_deep is not None:
            findings.append(
                Diagnostic(
                    Span("policies/hierarchies.csv"),
                    "chain-too-long",
                    f"more than {MAX_LINKS} links stand above `{hierarchy.too_deep}` in `{key}`",
                    "stock Casbin stops looking after that many: link the word to its group directly",
                )
            )
        if (word := hierarchy.cycle()) is not None:
            findings.append(
                Diagnostic(
                    Span("policies/hierarchies.csv"),
                    "cycle",
                    f"`{word}` stands above itself in `{key}`",
                    "remove one of the links",
                )
            )
    return findings


def _model(model: Model, vocabulary: Vocabulary, functions: dict[str, Function]) -> Iterator[Diagnostic]:
    where = Span("model.conf")
    for suffix in ("", *ROW_ATTRIBUTES):
        if suffix not in model.sections:
            yield Diagnostic(
                where,
                "missing-section",
                f"section `p{suffix}` is missing",
                f"define p{suffix}, e{suffix} and m{suffix}",
            )
    for section in model.sections.values():
        known, columns = ROW_ATTRIBUTES.get(section.suffix, {}), set(section.columns)
        readable = columns.intersection(known) if section.suffix else columns
        for code, message, hint, _ in check_expression(section.matcher, vocabulary, functions, readable):
            if code == "unguarded-attribute":
                continue  # a matcher hands what may be absent to functions that settle what absence means
            yield Diagnostic(where, code, f"`m{section.suffix}`: {message}", hint)
        yield from _all_read(section)
        yield from _covering(section, functions)
        for column in section.columns if section.suffix else ():
            if column not in known and column not in ("eft", "law", "node", "document"):
                yield Diagnostic(
                    where,
                    "unknown-column",
                    f"`p{section.suffix}.{column}` is no column that facts have",
                    nearest(column, known) or "columns of facts are: " + ", ".join(known),
                )


def _own_words(vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    """Find stated words with taken names, attributes that nothing supplies, and types with a class about patients."""
    where = Span("policies/vocabulary.toml")
    for entity, words in vocabulary.attributes.items():
        view, taken = _ENTITIES[entity]
        for name, word in words.items():
            own = not name.startswith("_") and name.isidentifier() and not hasattr(view, name) and name not in taken
            if word.stated and (entity == "ctx" or not own):
                yield Diagnostic(
                    where, "bad-vocabulary", f"`r.{entity}.{name}` cannot be a stated word",
                    "stated words are of sub, act and res, with names that are not taken",
                )  # fmt: skip
            elif not word.stated and not hasattr(view, name):
                yield Diagnostic(
                    where, "unknown-attribute", f"nothing supplies `r.{entity}.{name}`",
                    "let enforcement points state it: `stated = true`, `optional = true`",
                )  # fmt: skip
    for name, data_class in vocabulary.types.items():
        if data_class not in IMPERSONAL or data_class not in vocabulary.classes:
            yield Diagnostic(
                where, "bad-vocabulary", f"type `{name}` is given class `{data_class}`",
                "only types that concern nobody have a class of their own: " + ", ".join(sorted(IMPERSONAL)),
            )  # fmt: skip


def _positions(vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    """
    Find switches that name unknown words, blocking duties that do not say so, and reasons told as their opposite.

    A misspelt label, for instance, would shield nothing.
    """
    where, switches, usual = Span("policies/vocabulary.toml"), vocabulary.switches, Switches()
    shield, btg = switches.adolescent_shield, switches.btg
    for name, said, default, known in (
        ("very_restricted_roles", switches.very_restricted_roles, usual.very_restricted_roles, vocabulary.roles),
        ("minor_self_classes", switches.minor_self_classes, usual.minor_self_classes, vocabulary.classes),
        ("adolescent_shield.labels", shield.labels, usual.adolescent_shield.labels, vocabulary.labels),
        ("btg.actions", btg.actions, usual.btg.actions, vocabulary.actions),
    ):
        for word in said:
            if word not in known and word not in default:
                yield Diagnostic(
                    where, "bad-vocabulary", f"switch `{name}` names `{word}`, which is no word of this file",
                    nearest(word, known) or "add the word first",
                )  # fmt: skip
    for duty in BLOCKING_DUTIES:
        if duty in vocabulary.duties and not vocabulary.duties[duty].blocking:
            yield Diagnostic(
                where, "bad-vocabulary", f"duty `{duty}` does not block",
                "write `blocking = true`: a permit with it must not go to whoever cannot carry it out",
            )  # fmt: skip
    for prefix, told in vocabulary.reasons.items():
        if (told == "permitted") != (prefix.partition(".")[0] == "allow"):
            yield Diagnostic(
                where, "bad-vocabulary", f"reason `{prefix}` would be told as `{told}`",
                "permits are told as `permitted`, denials as something else",
            )  # fmt: skip


def _all_read(section: Section) -> Iterator[Diagnostic]:
    """Find columns that no matcher reads: what a row states there (a term, a class) would restrict nothing."""
    read = {node.name for node in walk(section.matcher) if isinstance(node, Column)}
    read |= {node.column for node in walk(section.matcher) if isinstance(node, EvalCell)}
    for column in section.columns:
        if column not in read and column not in _TOLD:
            yield Diagnostic(
                Span("model.conf"),
                "unread-column",
                f"`m{section.suffix}` does not ask for `p{section.suffix}.{column}`: it would count whatever it says",
                "ask for it in the matcher, joined by `&&`; a comment amid a matcher that goes on takes a line away",
            )


def _covering(section: Section, functions: dict[str, Function]) -> Iterator[Diagnostic]:
    """
    Find matchers that cannot be compiled as promised.

    A matcher is calls joined by `&&`; in ``m2`` gates come first; ``m5`` reads nothing but the index's key.
    """
    where, name = Span("model.conf"), f"m{section.suffix}"
    gates = [
        c.function in functions and functions[c.function].gate
        for c in conjuncts(section.matcher)
        if isinstance(c, Call)
    ]
    gates += [
        True
        for c in conjuncts(section.matcher)
        if isinstance(c, EvalCell) and c.column == "when" and not section.suffix
    ]
    if len(gates) != len(conjuncts(section.matcher)):
        yield Diagnostic(
            where,
            "uncountable-criterion",
            f"`{name}` holds a criterion that is no function",
            "join calls of functions by `&&`, so that a denial can tell which failed",
        )
    elif section.suffix == "2" and gates != sorted(gates, reverse=True):
        yield Diagnostic(
            where,
            "gate-after-criterion",
            f"`{name}` tests a gate behind another criterion",
            "term and purpose come first: they bind what hangs beneath a provision",
        )
    for criterion in conjuncts(section.matcher) if section.suffix else ():
        if isinstance(criterion, Call) and not (criterion.function in functions and functions[criterion.function].miss):
            yield Diagnostic(
                where,
                "uncountable-criterion",
                f"`{name}` asks `{criterion.function}`, which has no word for what it misses: it would count as met",
                "ask it in the condition of a rule",
            )
    reads = {(a.entity, a.name) for a in walk(section.matcher) if isinstance(a, Attribute)}
    if section.suffix == "5" and (not reads <= KEY or any(isinstance(n, Entity) for n in walk(section.matcher))):
        yield Diagnostic(
            where,
            "matrix-reads-more",
            "`m5` reads more than roles, action, class and purpose",
            "write such a condition as a rule",
        )


def _one_kind(file: str, rows: list[Row]) -> Iterator[Diagnostic]:
    kinds = {"g" if row.kind[0] == "g" else row.kind for row in rows}
    if kinds & {"p2", "p3", "p4"}:
        row = next(row for row in rows if row.kind in ("p2", "p3", "p4"))
        yield Diagnostic(
            row.span,
            "personal-fact-in-file",
            f"a `{row.kind}` row is one person's fact",
            "consents, delegations and emergency grants live in the store",
            source=row.source,
        )
    elif len(kinds) > 1:
        yield Diagnostic(
            Span(file),
            "mixed-rows",
            f"the file mixes {', '.join(f'`{k}`' for k in sorted(kinds))} rows",
            "one kind of row a file",
        )


def _band(rows: list[Row]) -> Iterator[Diagnostic]:
    """Find files of mixed priorities or effects: a file is one layer, so that no order of rows or files matters."""
    rules = [row for row in rows if row.kind == "p"]
    for column, code in (("priority", "mixed-priorities"), ("eft", "mixed-effects")):
        for row in rules[1:]:
            known = column != "eft" or row.text(column) in ("allow", "deny")
            if known and row.text(column) != rules[0].text(column):
                yield row.finding(
                    column,
                    code,
                    f"`{row.text(column)}`, but this file began with `{rules[0].text(column)}`",
                    "one file is one layer: move the rule to the file of its layer",
                )


def _in_order(rows: list[Row]) -> Iterator[Diagnostic]:
    """Find rules behind a higher number: of two that match the first settles it, and the numbers say which that is."""
    highest = -1
    for row in rows:
        number = row.text("id").rpartition("-")[2] if row.kind == "p" else ""
        if not number.isdecimal():
            continue
        if int(number) < highest:
            yield row.finding(
                "id",
                "rules-out-of-order",
                f"rule `{row.text('id')}` stands behind number {highest}",
                "order the rules of a file by number: of two that match, the first one settles it",
            )
        highest = max(highest, int(number))


def _across(files: dict[str, list[Row]]) -> Iterator[Diagnostic]:
    bands: dict[str, str] = {}
    ids: dict[str, Row] = {}
    for file, rows in files.items():
        for row in rows:
            if row.kind != "p":
                continue
            first = bands.setdefault(row.text("priority"), file)
            if first != file:
                yield row.finding(
                    "priority",
                    "shared-priority",
                    f"priority `{row.text('priority')}` belongs to `{first}`",
                    "give each layer a priority of its own",
                )
            if row.text("id") in ids:
                yield row.finding(
                    "id",
                    "id-given-twice",
                    f"rule id `{row.text('id')}` is given twice",
                    "ids are never reused; take the next number",
                )
            ids[row.text("id")] = row
