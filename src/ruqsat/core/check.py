"""
Everything that can be known of a pack from its text alone: rows × vocabulary × laws → findings.

Nothing about a policy is discovered at request time.  A finding says where, what
and what to do; all of them are collected.
"""

import re
from collections.abc import Iterable, Iterator

from ruqsat.core.compile import KEY, ROW_ATTRIBUTES, SECTION_FUNCTIONS
from ruqsat.core.diagnostics import Diagnostic, Span, nearest
from ruqsat.core.expression import (
    ENTITIES,
    All,
    Attribute,
    Call,
    Column,
    Const,
    Entity,
    EvalCell,
    Expression,
    ExpressionError,
    children,
    conjuncts,
    parse_expression,
    walk,
)
from ruqsat.core.functions import Function, words
from ruqsat.core.hierarchy import MAX_LINKS, Hierarchies
from ruqsat.core.laws import Law
from ruqsat.core.model_conf import Model, Section
from ruqsat.core.rows import Row
from ruqsat.core.vocabulary import Vocabulary

TOPICS = {"role": "entitled", "rep": "represents", "delegation": "delegated", "btg": "break_glass"}
"""``topic.*`` in the basis cell of a denial: the section that tells the reason."""

_PRIORITY = re.compile(r"[1-9][0-9]{0,5}")
_DUTY = re.compile(r"([a-z_]+)(:[0-9]+)?")
_REASON = re.compile(r"[a-z_]+(\.[a-z_]+)?")


def check_pack(
    model: Model,
    files: dict[str, list[Row]],
    vocabulary: Vocabulary,
    laws: dict[str, Law],
    functions: dict[str, Function],
    hierarchies: Hierarchies,
) -> list[Diagnostic]:
    """Return every finding about rows that could be read; never raises for an author's mistake."""
    arities = {name: function.arity for name, function in functions.items()}
    arities |= dict.fromkeys(SECTION_FUNCTIONS, len(ENTITIES))
    findings = list(_model(model, vocabulary, arities, functions))
    known, sound = _known_words(vocabulary), set[str]()
    for file, rows in files.items():
        findings += _one_kind(file, rows)
        findings += _band(file, rows)
        for row in rows:
            findings += _row(file, row, vocabulary, laws, arities, known, sound)
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


def _model(
    model: Model, vocabulary: Vocabulary, arities: dict[str, int], functions: dict[str, Function]
) -> Iterator[Diagnostic]:
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
        for code, message, hint, _ in _expression(section.matcher, vocabulary, arities, set(section.columns)):
            if code == "unguarded-attribute":
                continue  # a matcher hands what may be absent to functions that settle what absence means
            yield Diagnostic(where, code, f"`m{section.suffix}`: {message}", hint)
        yield from _covering(section, functions)
        for column in section.columns if section.suffix else ():
            if column not in ROW_ATTRIBUTES.get(section.suffix, {}) and column not in ("eft", "law", "node"):
                yield Diagnostic(
                    where,
                    "unknown-column",
                    f"`p{section.suffix}.{column}` is no column that facts have",
                    nearest(column, ROW_ATTRIBUTES.get(section.suffix, ())),
                )


def _covering(section: Section, functions: dict[str, Function]) -> Iterator[Diagnostic]:
    """A covering matcher is calls joined by `&&`, gates first; the matrix reads the index's key alone."""
    if not section.suffix:
        return
    where, name = Span("model.conf"), f"m{section.suffix}"
    gates = [
        c.function in functions and functions[c.function].gate
        for c in conjuncts(section.matcher)
        if isinstance(c, Call)
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


def _band(file: str, rows: list[Row]) -> Iterator[Diagnostic]:
    """One file is one layer is one priority is one effect, so that no order of rows or files matters."""
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


def _row(
    file: str, row: Row, vocabulary: Vocabulary, laws: dict[str, Law], arities: dict[str, int],
    known: "Known", sound: set[str],
) -> Iterator[Diagnostic]:  # fmt: skip
    if row.kind[0] == "g":
        yield from _link(row, vocabulary)
        return
    if row.kind in ("p2", "p3", "p4"):
        return  # refused as a whole
    yield from _words(row, known)
    yield from _citations(row, laws)
    if row.kind == "p":
        yield from _rule(file, row, vocabulary)
        if row.text("when") not in sound:
            found = list(_condition(row, vocabulary, arities))
            yield from found
            if not found:
                sound.add(row.text("when"))
    elif row.text("eft") != "allow":
        yield row.finding(
            "eft",
            "unknown-effect",
            f"effect `{row.text('eft')}` is not `allow`",
            "rows of this section mean `covers`; their effect is always `allow`",
        )


Known = dict[str, tuple[str, set[str]]]
"""By column: what its words are, and which there are."""


def _known_words(vocabulary: Vocabulary) -> Known:
    return {
        "role": ("role", {*vocabulary.roles, *vocabulary.role_groups}),
        "act": ("action", set(vocabulary.actions)),
        "class": ("class", {*vocabulary.classes, *vocabulary.class_groups}),
        "purpose": ("purpose", set(vocabulary.purposes)),
    }


def _words(row: Row, known: Known) -> Iterator[Diagnostic]:
    for column, (concept, allowed) in known.items():
        for word in words(row.text(column)) or ("-",):
            if word != "*" and word not in allowed:
                yield row.finding(
                    column,
                    f"unknown-{concept}",
                    f"{concept} `{word}` is not in vocabulary.toml",
                    nearest(word, allowed) or "add the word to the vocabulary first",
                )


def _citations(row: Row, laws: dict[str, Law]) -> Iterator[Diagnostic]:
    keys = words(row.text("law"))
    if not keys:
        yield row.finding("law", "rule-without-law", "the rule cites no law", "name at least one key of laws.toml")
    for key in keys:
        if key not in laws:
            yield row.finding(
                "law",
                "unknown-law",
                f"law `{key}` is not in laws.toml",
                nearest(key, laws) or "add the provision to laws.toml first",
            )


def _rule(file: str, row: Row, vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    stem = file.rpartition("/")[2].removesuffix(".csv")
    if not re.fullmatch(re.escape(stem) + r"-[0-9]{2,6}", row.text("id")):
        yield row.finding(
            "id",
            "rule-id-outside-file",
            f"rule id `{row.text('id')}` does not belong to this file",
            f"ids here look like `{stem}-01`",
        )
    if not _PRIORITY.fullmatch(row.text("priority")):
        yield row.finding(
            "priority",
            "bad-priority",
            f"priority `{row.text('priority')}` is no plain number",
            "Casbin sorts anything else as text; write 1 to 999999",
        )
    effect = row.text("eft")
    if effect not in ("allow", "deny"):
        yield row.finding(
            "eft",
            "unknown-effect",
            f"effect `{effect}` is not `allow` or `deny`",
            nearest(effect.lower(), ("allow", "deny")) or "effects are lower case",
        )
    yield from _ground(row, vocabulary)
    for duty in words(row.text("duties")):
        parts = _DUTY.fullmatch(duty)
        if parts is None or parts.group(1) not in vocabulary.duties:
            yield row.finding(
                "duties",
                "unknown-duty",
                f"duty `{duty}` is not in vocabulary.toml",
                nearest(duty.partition(":")[0], vocabulary.duties),
            )


def _ground(row: Row, vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    ground = row.text("basis")
    if row.text("eft") == "allow":
        if ground not in vocabulary.bases:
            yield row.finding(
                "basis",
                "unknown-basis",
                f"basis `{ground}` is not in vocabulary.toml",
                nearest(ground, vocabulary.bases) or "a permit has exactly one legal basis",
            )
        return
    topic, dot, rest = ground.partition(".")
    if dot and rest == "*" and topic in TOPICS:
        if TOPICS[topic] + "(" not in row.text("when"):
            yield row.finding(
                "basis",
                "unexplained-denial",
                f"`{ground}` is told by `{TOPICS[topic]}`, which this rule never asks",
                f"ask `{TOPICS[topic]}(…)` in the condition, or write the reason itself",
            )
    elif not _REASON.fullmatch(ground):
        yield row.finding(
            "basis",
            "unknown-reason",
            f"`{ground}` is no reason of a denial",
            "write `topic.word`, or `topic.*` with " + ", ".join(f"`{t}`" for t in TOPICS),
        )


def _condition(row: Row, vocabulary: Vocabulary, arities: dict[str, int]) -> Iterator[Diagnostic]:
    cell = row.cells["when"]
    try:
        expression = parse_expression(cell.text)
    except ExpressionError as error:
        place = Span(cell.span.file, cell.span.line, cell.span.column + max(0, error.offset), max(1, error.width))
        yield Diagnostic(place, error.code, error.message, error.hint, source=row.source)
        return
    for code, message, hint, _ in _expression(expression, vocabulary, arities, set()):
        yield row.finding("when", code, message, hint)


def _expression(
    expression: Expression, vocabulary: Vocabulary, arities: dict[str, int], columns: set[str]
) -> Iterator[tuple[str, str, str, Expression]]:
    """Yield (code, message, hint, node) for every name in an expression that does not exist."""
    guarded = {id(node) for node in _guarded(expression, frozenset())}
    for node in walk(expression):
        match node:
            case Attribute(entity=entity, name=name):
                known = vocabulary.attributes.get(entity, {})  # type: ignore[call-overload]
                if name not in known:
                    yield (
                        "unknown-attribute",
                        f"`r.{entity}.{name}` is not in vocabulary.toml",
                        nearest(name, known),
                        node,
                    )
                elif known[name].optional and id(node) not in guarded:
                    yield (
                        "unguarded-attribute",
                        f"`r.{entity}.{name}` may be absent",
                        f"start with `is_known(r.{entity}, '{name}') &&`",
                        node,
                    )
            case Call(function=name, arguments=arguments):
                yield from _call(name, arguments, arities, node)
            case Column(name=name) | EvalCell(column=name) if name not in columns:
                yield ("unknown-column", f"`p.{name}` is no column that may be read here", nearest(name, columns), node)
            case _:
                pass


def _guarded(expression: Expression, known: frozenset[tuple[str, object]]) -> Iterator[Expression]:
    """Yield every attribute that is read only after an `is_known` of it, joined by `&&`, has been true."""
    match expression:
        case All(operands=operands):
            for part in operands:
                yield from _guarded(part, known)
                match part:
                    case Call(function="is_known", arguments=(Entity(name=entity), Const(value=name))):
                        known |= {(entity, name)}
        case Attribute(entity=entity, name=name) if (entity, name) in known:
            yield expression
        case _:
            for part in children(expression):
                yield from _guarded(part, known)


def _call(
    name: str, arguments: tuple[Expression, ...], arities: dict[str, int], node: Expression
) -> Iterator[tuple[str, str, str, Expression]]:
    if name not in arities:
        yield ("unknown-function", f"`{name}` is no function of this pack", nearest(name, arities), node)
    elif len(arguments) != arities[name]:
        yield (
            "wrong-argument-count",
            f"`{name}` takes {arities[name]} arguments, found {len(arguments)}",
            "see the list of functions in the policy guide",
            node,
        )
    elif name in SECTION_FUNCTIONS and arguments != tuple(Entity(entity) for entity in ENTITIES):
        yield (
            "wrong-arguments",
            f"`{name}` asks about the whole request",
            f"write `{name}({', '.join('r.' + e for e in ENTITIES)})`",
            node,
        )


def _link(row: Row, vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    kinds: dict[str, Iterable[str]] = {
        "g": {*vocabulary.roles, *vocabulary.role_groups},
        "g2": {*vocabulary.classes, *vocabulary.class_groups},
        "g3": vocabulary.purposes,
        "g4": vocabulary.purposes,
        "g5": vocabulary.labels,
    }
    for column in ("member", "group"):
        if row.text(column) not in kinds[row.kind]:
            yield row.finding(
                column,
                "unknown-word",
                f"`{row.text(column)}` is not in vocabulary.toml",
                nearest(row.text(column), kinds[row.kind]),
            )
