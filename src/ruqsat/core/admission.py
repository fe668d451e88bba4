"""
What a pack must be before it may decide: readable, without errors, and as its own cases promise.

Pure; the comparison with stock pycasbin is the Casbin room's, since it needs pycasbin.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ruqsat.core.cases import PolicyCase, parse_cases, read_world, run_cases
from ruqsat.core.diagnostics import Diagnostic, Span, has_errors, in_order
from ruqsat.core.pack import ROUTES, load_pack, read_parts, variants_of
from ruqsat.core.policy_set import PolicySet, Rule
from ruqsat.core.routes import RouteTable, parse_routes
from ruqsat.core.spreadsheet import read_text
from ruqsat.core.stated import check_stored
from ruqsat.core.vocabulary import Vocabulary

WORLD = "policies/fixtures/world.toml"
CASES = ".test.toml"

_DECIDE = (
    "labels",
    "bases",
    "duties",
    "reasons",
    "types",
    "organisation_categories",
    "sources",
    "attributes",
    "switches",
)
"""The parts of a vocabulary that decide by more than the words that they hold."""


class Pack(Struct, frozen=True):
    """A pack in its usable form: what decides, and what proxies' requests mean."""

    policy_set: PolicySet
    routes: RouteTable


class Kept(Struct, frozen=True):
    """What was admitted last, and by which version of Ruqsat."""

    texts: dict[str, bytes]
    version: str


class Changes(Struct, frozen=True, omit_defaults=True):
    """
    By what two packs differ: rules, by id.

    ``besides`` names entries of the vocabulary (``switches.btg.mfa``), and files that differ of which no rule is told.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()


def build_pack(texts: Mapping[str, bytes]) -> tuple[Pack | None, list[Diagnostic]]:
    """Check and compile rules and routes; None if any finding is an error."""
    policy_set, findings = load_pack(texts)
    if policy_set is None or has_errors(findings):
        return None, findings
    routes, found = load_routes(texts, policy_set)
    findings = in_order([*findings, *found])
    return (None if routes is None or has_errors(findings) else Pack(policy_set, routes)), findings


def load_routes(texts: Mapping[str, bytes], policy_set: PolicySet) -> tuple[RouteTable | None, list[Diagnostic]]:
    """Read the routes of a pack; None with findings if there are none to use."""
    if ROUTES not in texts:
        return None, [Diagnostic(Span(ROUTES), "missing-file", "the file is missing", "forward-auth callers need it")]
    text, findings = read_text(texts[ROUTES], ROUTES)
    if text is None:
        return None, findings
    routes, found = parse_routes(text, ROUTES, policy_set.vocabulary)
    return routes, [*findings, *found]


def read_cases(texts: Mapping[str, bytes]) -> tuple[dict[str, tuple[PolicyCase, ...]], list[Diagnostic]]:
    """Return the pack's cases by file, and what is wrong with the files."""
    files: dict[str, tuple[PolicyCase, ...]] = {}
    findings: list[Diagnostic] = []
    for name in sorted(name for name in texts if name.endswith(CASES)):
        text, found = read_text(texts[name], name)
        findings += found
        if text is not None:
            files[name], found = parse_cases(text, name)
            findings += found
        rules = name.removesuffix(CASES) + ".csv"
        if rules not in texts:
            findings.append(
                Diagnostic(Span(rules), "missing-file", f"the file is missing, and `{name}` holds its cases",
                           "bring it back under this very name, or take its cases away with it")
            )  # fmt: skip
    return files, findings


def try_cases(texts: Mapping[str, bytes], policy_set: PolicySet) -> tuple[int, list[Diagnostic]]:
    """Run the pack's cases; return how many there are, and a finding for each that is not as promised."""
    files, findings = read_cases(texts)
    if not any(files.values()):
        return 0, findings
    try:
        parts, _ = read_parts(texts)
        if parts is None:
            return 0, findings
        world = read_world(texts, WORLD)
        check_stored(world, policy_set.vocabulary)
        results = run_cases(policy_set, world, files, variants_of(parts))
    except (ValueError, msgspec.ValidationError) as error:
        return 0, [*findings, Diagnostic(Span(WORLD), "bad-world", str(error), "see the comments of the file")]
    findings += [
        Diagnostic(
            Span(result.file), "case-failed", f"`{result.case.name}`: {result.problem}", "mend the rule or the case"
        )
        for result in results
        if result.problem
    ]
    return len(results), findings


def changes_between(old: PolicySet | None, new: PolicySet) -> Changes:
    """Return which rules *new* adds to *old*, takes away, or writes otherwise."""
    before = {rule.id: _written(rule) for rule in old.rules} if old is not None else {}
    after = {rule.id: _written(rule) for rule in new.rules}
    return Changes(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
    )


def changes_of(
    before: tuple[Mapping[str, bytes], PolicySet | None], after: tuple[Mapping[str, bytes], PolicySet]
) -> Changes:
    """Return everything by which a pack differs from the one before, whose set is None if it cannot be compiled."""
    changes = changes_between(before[1], after[1])
    if not before[0]:
        return changes
    names = entries_between(before[1].vocabulary, after[1].vocabulary) if before[1] is not None else ()
    told = {
        f"policies/{id_.rpartition('-')[0]}.csv"
        for ids in (changes.added, changes.removed, changes.changed)
        for id_ in ids
    }
    files = {name for name in {*before[0], *after[0]} - told if before[0].get(name) != after[0].get(name)}
    return replace(changes, besides=(*names, *sorted(files)))


def entries_between(old: Vocabulary, new: Vocabulary) -> tuple[str, ...]:
    """Return the entries by which two vocabularies decide otherwise: ``labels.HIV.conf``, ``switches.btg.mfa``."""
    before, after = _flat(old), _flat(new)
    return tuple(name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name))


def _flat(vocabulary: Vocabulary) -> dict[str, object]:
    said = msgspec.to_builtins(vocabulary)
    found: dict[str, object] = {}
    waiting: list[tuple[str, object]] = [(name, said[name]) for name in reversed(_DECIDE)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}", value[key]) for key in reversed(value) if key not in ("means", "law")]
        else:
            found[name] = value
    return found


def _written(rule: Rule) -> tuple[object, ...]:
    """Return a rule as it is written, without what is generated from it."""
    return (
        rule.priority, rule.allows, rule.ground, rule.duties, rule.law,
        rule.role, rule.act, rule.data_class, rule.purpose, rule.condition,
    )  # fmt: skip
