"""``policy mutate``: spoil the rules one at a time; a mutant that no case notices is a hole in the cases."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import Struct

from ruqsat.core.authoring.tracing import written
from ruqsat.core.cases import PolicyCase, Stage, run_case
from ruqsat.core.diagnostics import Span, has_errors
from ruqsat.core.expression import All, conjuncts, parse_expression
from ruqsat.core.expression import Any as Either
from ruqsat.core.pack import Parts, check_parts, compile_parts, variants_of
from ruqsat.core.rows import Cell, Row
from ruqsat.core.world import World

_CELLS = {"p": ("role", "act", "class", "purpose"), "p5": ("role", "purpose", "act", "class")}


class Mutant(Struct, frozen=True):
    """One spoilt pack: where, what was done to it, and its rows."""

    place: Span
    name: str
    change: str
    rows: tuple[Row, ...]


def mutants(parts: Parts, file: str = "") -> Iterator[Mutant]:
    """
    Yield the mutants of a pack, or of one file of it.

    Rows are taken away, effects flipped, conditions, their alternatives and duties dropped, cells and hierarchies
    widened, denials narrowed by a word.

    Args:
        file: Name of a rule file without its folder; empty for all.
    """
    for number, row in enumerate(parts.rows):
        if file and row.span.file.rpartition("/")[2] != file:
            continue
        for change, made in _changes(row, parts):
            rows = (*parts.rows[:number], *made, *parts.rows[number + 1 :])
            yield Mutant(row.span, _name(row), change, rows)


def survives(mutant: Mutant, parts: Parts, world: World | Stage, files: Mapping[str, tuple[PolicyCase, ...]]) -> bool:
    """Tell whether every case is still as promised under the mutant, and the checker would let it in force."""
    spoilt = msgspec.structs.replace(parts, rows=mutant.rows, digest="mutant")
    policy_set, variant = compile_parts(spoilt), variants_of(spoilt)
    if any(run_case(policy_set, world, name, case, variant).problem for name, cases in files.items() for case in cases):
        return False
    written_in: dict[str, list[Row]] = {}
    for row in spoilt.rows:
        written_in.setdefault(row.span.file, []).append(row)
    return not has_errors(check_parts(spoilt, written_in))


def _changes(row: Row, parts: Parts) -> Iterator[tuple[str, tuple[Row, ...]]]:
    yield "taken away", ()
    if row.kind[0] == "g":
        known = _members(row, parts)
        if known:
            other = known[0]
            yield f"`{other}` put under `{row.text('group')}` too", (row, _with(row, member=other))
        return
    if row.kind == "p":
        if row.text("eft") == "allow":
            yield "effect flipped to deny", (_with(row, eft="deny", basis="mutant.flipped", duties="-"),)
        else:
            yield "effect flipped to allow", (_with(row, eft="allow", basis=min(parts.vocabulary.bases)),)
        condition = conjuncts(parse_expression(row.text("when")))
        for place, part in enumerate(condition):
            rest = condition[:place] + condition[place + 1 :]
            if written(part) != "True":
                yield f"`{written(part)}` dropped", (_with(row, when=written(All(rest)) if rest else "True"),)
            if isinstance(part, Either):
                for choice in part.operands:
                    kept = Either(tuple(each for each in part.operands if each is not choice))
                    when = written(All((*condition[:place], kept, *condition[place + 1 :])))
                    yield f"`{written(choice)}` dropped of the alternatives", (_with(row, when=when),)
        if row.text("duties") != "-":
            yield "duties dropped", (_with(row, duties="-"),)
    for column in _CELLS.get(row.kind, ()):
        if row.text(column) != "*":
            yield f"{column} widened to any", (_with(row, **{column: "*"}),)
        named = row.text(column).split()
        if row.kind == "p" and row.text("eft") == "deny" and len(named) > 1:
            for word in named:
                fewer = " ".join(each for each in named if each != word)
                yield f"`{word}` taken out of {column}", (_with(row, **{column: fewer}),)


def _members(row: Row, parts: Parts) -> list[str]:
    """Return, sorted, the words that a mutant may link to the row's group: those of its kind not linked to it yet."""
    words: dict[str, Iterable[str]] = {
        "g": parts.vocabulary.roles, "g2": parts.vocabulary.classes, "g3": parts.vocabulary.purposes,
        "g4": parts.vocabulary.purposes, "g5": parts.vocabulary.labels,
    }  # fmt: skip
    group = row.text("group")
    under = {each.text("member") for each in parts.rows if each.kind == row.kind and each.text("group") == group}
    return sorted(word for word in words[row.kind] if word not in under and word != group)


def _with(row: Row, **texts: str) -> Row:
    cells = dict(row.cells)
    for column, text in texts.items():
        cells[column] = Cell(text, cells[column].span)
    return msgspec.structs.replace(row, cells=cells)


def _name(row: Row) -> str:
    if row.kind == "p":
        return row.text("id")
    if row.kind[0] == "g":
        return f"{row.kind} {row.text('member')} under {row.text('group')}"
    return f"{row.text('role')}: {row.text('act')} {row.text('class')}"
