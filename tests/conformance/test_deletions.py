"""
Nothing stands in the pack for nothing: whatever is deleted, a scenario or a case gives another answer.

Deleted are, one at a time: each criterion of each matcher, each rule, each row of the role
matrix, each link of a hierarchy.  The set is then built without the checker, so that only a
promise can notice.  What no promise notices counts as noticed if the checker refuses the
pack without that line; else it stands below with the reason why nothing can notice it.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import pytest

from ruqsat.core.evaluate import evaluate
from ruqsat.core.expression import All, Call, conjuncts
from ruqsat.core.pack import Parts, read_parts, variants_of
from ruqsat.core.world import World
from tests.conformance.questions import Asked, Variant, policy_cases, scenarios

EQUIVALENT: dict[str, str] = {}
"""Deletions that change no answer at all, and why."""


class Deletion(NamedTuple):
    """One thing taken out of the pack; ``place`` is its file and line, if it stands on one line."""

    name: str
    left: Parts
    place: tuple[str, int] | None = None


def shorter_matchers(parts: Parts) -> Iterator[Deletion]:
    """The model without one criterion of one matcher."""
    for suffix, section in parts.model.sections.items():
        criteria = conjuncts(section.matcher)
        for number, criterion in enumerate(criteria):
            left = msgspec.structs.replace(section, matcher=All(criteria[:number] + criteria[number + 1 :]))
            model = msgspec.structs.replace(parts.model, sections=parts.model.sections | {suffix: left})
            name = criterion.function if isinstance(criterion, Call) else "eval"
            yield Deletion(f"m{suffix} {name}", msgspec.structs.replace(parts, model=model))


def fewer_rows(parts: Parts, kind: str) -> Iterator[Deletion]:
    """The pack without one row of a kind (``p``, ``p5``, or ``g`` for every hierarchy)."""
    for number, row in enumerate(parts.rows):
        if row.kind == kind or kind == "g" == row.kind[0]:
            cells = ("id",) if kind == "p" else [name for name in row.cells if name not in ("eft", "law")]
            name = " ".join([row.kind, *(row.text(cell) for cell in cells)])
            left = msgspec.structs.replace(parts, rows=parts.rows[:number] + parts.rows[number + 1 :])
            yield Deletion(name, left, (row.span.file, row.span.line))


def deletions(parts: Parts) -> Iterator[Deletion]:
    """Everything that can be deleted."""
    yield from shorter_matchers(parts)
    for kind in ("p", "p5", "g"):
        yield from fewer_rows(parts, kind)


@pytest.fixture(scope="module")
def promises(pack_texts: dict[str, bytes], world: World, variant: Variant) -> list[Asked]:
    """Every scenario and case, ready to be asked; those under the pack's own switches first."""
    asked = [*scenarios(variant), *policy_cases(pack_texts, world, variant)]
    return sorted(asked, key=lambda each: bool(each.switches))


def first_broken(promises: list[Asked], product: Variant) -> str | None:
    """The first promise that a product breaks."""
    return next((each.name for each in promises if each.wrong(evaluate(product(each.switches), *each[1:5]))), None)


def is_refused(texts: Mapping[str, bytes], place: tuple[str, int] | None) -> bool:
    """Tell whether the checker refuses the pack without that line."""
    if place is None:
        return False
    file, number = place
    lines = texts[file].split(b"\n")
    return read_parts({**texts, file: b"\n".join(lines[: number - 1] + lines[number:])})[0] is None


def test_the_pack_itself_keeps_every_promise(promises: list[Asked], variant: Variant) -> None:
    """Otherwise what follows would show nothing."""
    assert first_broken(promises, variant) is None


def test_a_rule_that_nothing_is_promised_of_is_found(parts: Parts, promises: list[Asked], variant: Variant) -> None:
    """Planted: without the promises that one rule settles, nothing misses it; with them, something does."""
    without = next(each.left for each in deletions(parts) if each.name == "p consent-05")
    others = [each for each in promises if evaluate(variant(each.switches), *each[1:5]).rule != "consent-05"]

    assert first_broken(others, variants_of(without)) is None
    assert first_broken(promises, variants_of(without)) is not None


def test_what_the_checker_refuses_is_told_apart(parts: Parts, pack_texts: dict[str, bytes]) -> None:
    """A file whose only rule is gone is refused, one that keeps others is not."""
    places = {each.name: each.place for each in deletions(parts)}

    assert is_refused(pack_texts, places["p clearance-01"])
    assert not is_refused(pack_texts, places["p consent-05"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_deleted_is_missed(parts: Parts, pack_texts: dict[str, bytes], promises: list[Asked]) -> None:
    """Each deletion breaks a promise, or is refused by the checker, or is argued above."""
    mutants = list(deletions(parts))
    unnoticed = [each for each in mutants if first_broken(promises, variants_of(each.left)) is None]
    refused = {each.name for each in unnoticed if is_refused(pack_texts, each.place)}
    survivors = {each.name for each in unnoticed} - refused
    argued = {*EQUIVALENT}
    print(f"{len(mutants)} deletions; noticed by the checker alone: {sorted(refused)}")

    assert not survivors - argued, "no scenario and no case notices that these are gone:\n" + "\n".join(
        sorted(survivors - argued)
    )
    assert not argued - survivors, f"noticed now, or no longer there; take off the list: {sorted(argued - survivors)}"
