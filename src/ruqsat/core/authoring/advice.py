"""
Warnings: what is allowed to stand in a pack but is probably not meant.

Each costs a bounded time a rule, so that a policy of a hundred thousand rules is
advised on in seconds: what is looked for is found by key, not by comparing pairs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from itertools import chain, combinations, product

from ruqsat.core.cases import PolicyCase
from ruqsat.core.cells import words
from ruqsat.core.diagnostics import Diagnostic, Severity, Span
from ruqsat.core.expression import (
    All,
    Attribute,
    Call,
    Compare,
    Const,
    Expression,
    Not,
    conjuncts,
    parse_expression,
    walk,
)
from ruqsat.core.functions import build_functions
from ruqsat.core.pack import LAWS, VOCABULARY, Parts, hierarchies_of
from ruqsat.core.rows import Row

REVIEW_EVERY = timedelta(days=365)
"""How long a comparison of the rules with a law's text holds."""

_COLUMNS = ("role", "act", "class", "purpose")
_MANY = 64
"""More wider keys of one rule than this are not looked for."""


def advise(
    parts: Parts, texts: Mapping[str, bytes], cases: Mapping[str, Iterable[PolicyCase]], today: date
) -> list[Diagnostic]:
    """
    Return every warning about a pack that was found sound.

    Args:
        parts: The pack.
        texts: Its files, for the places of words.
        cases: Its cases by file.
        today: The day on which reviews of laws are overdue.
    """
    rules = [row for row in parts.rows if row.kind == "p"]
    parse = cache(lambda text: conjuncts(parse_expression(text)))
    return [
        *_alike(rules),
        *_shadowed(rules, parts, parse),
        *_unreachable(rules, parts, parse),
        *_on_absence(rules, parse),
        *_unnamed(rules, cases),
        *_unused(parts, texts),
        *_overdue(parts, texts, today),
    ]


Parse = Callable[[str], tuple[Expression, ...]]


def _alike(rules: list[Row]) -> Iterator[Diagnostic]:
    known: dict[tuple[str, ...], Row] = {}
    for row in rules:
        key = tuple(" ".join(sorted(words(cell.text))) for name, cell in row.cells.items() if name not in ("id", "law"))
        first = known.setdefault(key, row)
        if first is not row:
            yield _warning(
                row, "id", "identical-rules", f"`{row.text('id')}` says the same as `{first.text('id')}`",
                "keep one of them, with the laws of both",
            )  # fmt: skip


def _shadowed(rules: list[Row], parts: Parts, parse: Parse) -> Iterator[Diagnostic]:
    """Warn of rules that never decide, because a rule before them matches whatever they match."""
    hierarchies = hierarchies_of(parts.rows)
    above = {"role": hierarchies.roles.above, "class": hierarchies.classes.above, "purpose": hierarchies.permits.above}
    known: dict[tuple[object, ...], Row] = {}
    for row in sorted(rules, key=lambda row: (int(row.text("priority")), row.text("id"))):
        condition = frozenset(part for part in parse(row.text("when")) if part != Const(True))
        cells = {column: frozenset(words(row.text(column)) or ("*",)) for column in _COLUMNS}
        wider = [
            {cells[column], frozenset(("*",)), *(_groups(cells[column], above[column]) if column in above else ())}
            for column in _COLUMNS
        ]
        weaker = [frozenset(each) for each in _subsets(condition)]
        keys: Iterable[tuple[object, ...]] = [(condition, *cells.values())]
        if len(weaker) * _size(wider) <= _MANY * _MANY:
            keys = product(weaker, *wider)
        for key in keys:
            first = known.get(key)
            if first is not None and not _same(first, row):
                message = f"`{first.text('id')}` comes first and matches whatever this rule matches"
                hint = "remove the rule, or put it into a layer before"
                yield _warning(row, "id", "shadowed-rule", message, hint)
                break
        known.setdefault((condition, *cells.values()), row)


def _subsets(condition: frozenset[Expression]) -> Iterable[tuple[Expression, ...]]:
    if len(condition) > 6:
        return ((), tuple(condition))
    return chain.from_iterable(combinations(condition, size) for size in range(len(condition) + 1))


def _groups(cell: frozenset[str], above: Callable[[str], frozenset[str]]) -> set[frozenset[str]]:
    """Return the cells of one word that all words of this cell are kinds of, and which so match whatever it matches."""
    common = frozenset.intersection(*(above(word) for word in cell))
    return {frozenset((word,)) for word in common}


def _size(sets: Iterable[set[frozenset[str]]]) -> int:
    size = 1
    for each in sets:
        size *= len(each)
    return size


def _same(one: Row, other: Row) -> bool:
    return all(one.text(column) == other.text(column) for column in ("eft", "basis", "duties", "when", *_COLUMNS))


def _unreachable(rules: list[Row], parts: Parts, parse: Parse) -> Iterator[Diagnostic]:
    """Warn of rules that no request can meet: a condition contradicts itself, or the role matrix denies all before."""
    call = {name: f.call for name, f in build_functions(parts.vocabulary, hierarchies_of(parts.rows)).items()}
    matrix = [row for row in parts.rows if row.kind == "p5"]
    closes = [
        int(row.text("priority"))
        for row in rules
        if row.text("eft") == "deny" and all(row.text(c) == "*" for c in _COLUMNS)
        and [type(part) for part in parse(row.text("when"))] == [Not] and "!entitled(" in row.text("when")
    ]  # fmt: skip
    tests: dict[str, Callable[[str, str], bool]] = {
        "role": lambda word, cell: call["holds"]((word,), cell),
        "act": call["acts"],
        "class": call["touches"],
        "purpose": lambda word, cell: call["states"]((word,), cell),
    }
    vocabulary = parts.vocabulary
    every: dict[str, Iterable[str]] = {
        "role": vocabulary.roles, "act": vocabulary.actions, "class": vocabulary.classes,
        "purpose": vocabulary.purposes,
    }  # fmt: skip

    @cache
    def reached(column: str, cell: str) -> frozenset[str]:
        if column == "purpose":
            return frozenset(word for word in every[column] if call["covers"]((word,), cell))
        return frozenset(word for word in every[column] if tests[column](word, cell))

    @cache
    def met(column: str, cell: str, entitled: str) -> bool:
        return any(tests[column](word, entitled) for word in reached(column, cell))

    for row in rules:
        if _contradicts(parse(row.text("when"))):
            yield _warning(
                row, "when", "unreachable-rule", "the condition contradicts itself: no request can meet it",
                "ask for one value, or join them by `||`",
            )  # fmt: skip
        elif (
            closes
            and row.text("eft") == "allow"
            and int(row.text("priority")) > min(closes)
            and not any(all(met(c, row.text(c), each.text(c)) for c in _COLUMNS) for each in matrix)
        ):
            yield _warning(
                row, "role", "unreachable-rule", "no row of the role matrix lets any request come as far as this rule",
                "add the row to role-matrix.csv, or remove the rule",
            )  # fmt: skip


def _contradicts(parts: tuple[Expression, ...]) -> bool:
    wanted: dict[Expression, Expression] = {}
    for part in parts:
        match part:
            case Const(value=False):
                return True
            case Not(operand=operand) if operand in parts:
                return True
            case Compare(op="==", left=Attribute() as left, right=Const() as right):
                if wanted.setdefault(left, right) != right:
                    return True
            case _:
                pass
    return False


def _on_absence(rules: list[Row], parse: Parse) -> Iterator[Diagnostic]:
    for row in rules:
        if row.text("eft") != "deny":
            continue
        for part in parse(row.text("when")):
            for node in walk(part):
                if isinstance(node, Not) and isinstance(node.operand, All) and _asks_known(node.operand):
                    yield _warning(
                        row, "when", "denies-on-absence", "the denial also fires when the attribute is absent",
                        "if that is meant, write `!is_known(…) || …`, so that a reader sees it",
                    )  # fmt: skip


def _asks_known(node: Expression) -> bool:
    return any(isinstance(each, Call) and each.function == "is_known" for each in walk(node))


def _unnamed(rules: list[Row], cases: Mapping[str, Iterable[PolicyCase]]) -> Iterator[Diagnostic]:
    named = {case.because for each in cases.values() for case in each}
    for row in rules:
        if row.text("id") not in named:
            file = row.span.file.rpartition("/")[2].removesuffix(".csv")
            yield _warning(
                row, "id", "rule-without-case", f"no case names `{row.text('id')}` in `because`",
                f"add one to {file}.test.toml, and one for what the rule must not do",
            )  # fmt: skip


def _unused(parts: Parts, texts: Mapping[str, bytes]) -> Iterator[Diagnostic]:
    vocabulary = parts.vocabulary
    used = {
        word
        for row in parts.rows
        for name, cell in row.cells.items()
        if name not in ("id", "when", "law", "priority", "eft")
        for word in (each.partition(":")[0] for each in words(cell.text))
    }
    literals = set(re.findall(r"'([^']*)'", "\n".join(row.text("when") for row in parts.rows if row.kind == "p")))
    # A label needs no rule of its own: every label shuts what no consent names.
    kinds: dict[str, Iterable[str]] = {
        "roles": vocabulary.roles, "role_groups": vocabulary.role_groups, "actions": vocabulary.actions,
        "classes": vocabulary.classes, "class_groups": vocabulary.class_groups, "purposes": vocabulary.purposes,
        "bases": vocabulary.bases, "duties": vocabulary.duties,
    }  # fmt: skip
    text = texts[VOCABULARY].decode()
    for kind, known in kinds.items():
        for word in known:
            if word not in used and word not in literals and word not in vocabulary.reserved:
                place = _place(text, kind, word, VOCABULARY)
                message = f"`{word}` of [{kind}] stands in no rule, row or hierarchy"
                hint = "use it, take it out, or name it in `reserved` if it is meant to stand by"
                yield Diagnostic(place, "unused-word", message, hint, Severity.WARNING)


def _overdue(parts: Parts, texts: Mapping[str, bytes], today: date) -> Iterator[Diagnostic]:
    for key, law in parts.laws.items():
        ago = (today - law.reviewed_on).days
        if not -1 <= ago <= REVIEW_EVERY.days:
            place = _place(texts[LAWS].decode(), key, "reviewed_on", LAWS)
            told = "more than a year ago" if ago > 0 else "a day that is still to come"
            message = f"`{key}` was compared with the law's text on {law.reviewed_on}, {told}"
            hint = "read the law again, mend the rules that cite it, write today's date"
            yield Diagnostic(place, "review-overdue", message, hint, Severity.WARNING)


def _place(text: str, table: str, word: str, file: str) -> Span:
    """Return where a key stands in a TOML table; the file alone if it is written otherwise."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            inside = line.strip().strip('[]"') == table
        elif inside and re.match(rf'\s*"?{re.escape(word)}"?\s*=', line):
            return Span(file, number, 1, len(word))
    return Span(file)


def _warning(row: Row, column: str, code: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(row.cells[column].span, code, message, hint, Severity.WARNING, row.source)
