"""
Our own pack's rules as tables that any peer can hold: who may do what to which class, for what, on which ground.

They are read from the files themselves, so a change of a rule changes what the peers are asked to decide; what no
table says (how grounds combine) is written down once for each peer, and compared.
"""

import tomllib
from pathlib import Path
from typing import NamedTuple

from bench.peers.common.world import CLASSES, LABELS, Document, Link, World

ROOT = Path(__file__).resolve().parents[3]
PURPOSES = ("TREAT", "ETREAT", "HPAYMT", "PATRQT", "FAMRQT")
ROLES = ("physician", "nurse", "emergency_clinician", "lab_diagnostic", "pharmacist", "insurer", "patient", "delegate")
ACTIONS = ("read", "search", "create", "update", "export")

Cells = dict[str, frozenset[str]]
"""Of each role ``PURPOSE/action/class``."""

Links = dict[str, frozenset[str]]
"""Of each word everything that it is a kind of, itself too."""


class Rules(NamedTuple):
    """
    The tables.

    Attributes:
        consent: What a role may do with a consent; the role matrix is in it already.
        emergency: What it may do in an emergency without one, likewise.
        shut: What it may not do in an emergency where the glass must be broken.
        delegation: What a delegate may do.
        own: What a patient may do with the own record.
        glass: Labels for which the glass must be broken.
        very_restricted: Labels that need a cleared role even with a consent.
        cleared: The roles that are.
    """

    consent: Cells
    emergency: Cells
    shut: Cells
    delegation: Cells
    own: Cells
    glass: frozenset[str]
    very_restricted: frozenset[str]
    cleared: frozenset[str]
    classes: Links
    permits: Links
    denials: Links
    labels: Links


def cell(purpose: str, action: str, data_class: str) -> str:
    """Return the name of a cell of the tables."""
    return f"{purpose}/{action}/{data_class}"


def read_rules(root: Path = ROOT) -> Rules:
    """Read the tables from the pack in *root*."""
    policies = root / "policies"
    kinds = {kind: _links(policies / "hierarchies.csv", kind) for kind in ("g", "g2", "g3", "g4", "g5")}
    vocabulary = tomllib.loads((policies / "vocabulary.toml").read_text())
    switches, labels = vocabulary["switches"], vocabulary["labels"]
    matrix = _matrix(policies / "role-matrix.csv", kinds["g2"])

    def table(name: str, *, narrowed: bool) -> Cells:
        return _cells(policies / f"{name}.csv", kinds, matrix if narrowed else None)

    return Rules(
        table("consent", narrowed=True), table("emergency", narrowed=True), table("emergency-limits", narrowed=False),
        table("delegation", narrowed=False), table("self-access", narrowed=False),
        frozenset(each for each in LABELS if labels[each]["conf"] in switches["btg_required_conf"] or each == "VIP"),
        frozenset(each for each in LABELS if labels[each]["conf"] == "V"),
        frozenset(switches["very_restricted_roles"]),
        *(_over(kinds[kind]) for kind in ("g2", "g3", "g4", "g5")),
    )  # fmt: skip


def reaching(world: World, rules: Rules) -> World:
    """Return the world with every document written out: each word replaced by all words that it stands for."""

    def written_out(document: Document) -> Document:
        purposes = rules.denials if document.refuses else rules.permits
        return document._replace(
            purposes=_below(document.purposes, purposes, PURPOSES),
            classes=_below(document.classes, rules.classes, CLASSES),
            labels=_below(document.labels, rules.labels, LABELS),
        )  # fmt: skip

    def link_out(link: Link) -> Link:
        return link._replace(
            classes=_below(link.classes, rules.classes, CLASSES), labels=_below(link.labels, rules.labels, LABELS)
        )

    return world._replace(
        patients={
            patient.id: patient._replace(
                documents=tuple(written_out(each) for each in patient.documents),
                links=tuple(link_out(each) for each in patient.links),
            )
            for patient in world.patients.values()
        }
    )


def _below(words: tuple[str, ...], links: Links, known: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in known if not links.get(each, frozenset({each})).isdisjoint(words))


def _rows(file: Path, kind: str, cells: int) -> list[list[str]]:
    lines = [line.split(",", cells) for line in file.read_text().splitlines() if line.startswith(f"{kind},")]
    return [[each.strip() for each in line[1:]] for line in lines]


def _links(file: Path, kind: str) -> list[tuple[str, str]]:
    return [(member, group) for member, group in _rows(file, kind, 2)]


def _over(pairs: list[tuple[str, str]]) -> Links:
    above: dict[str, set[str]] = {}
    for member, group in pairs:
        above.setdefault(member, {member}).add(group)
    for _ in pairs:
        for found in above.values():
            found.update(*[above.get(each, set()) for each in found])
    return {member: frozenset(found) for member, found in above.items()}


def _meets(word: str, asked: str, links: Links) -> bool:
    return asked == "*" or not links.get(word, frozenset({word})).isdisjoint(asked.split())


def _matrix(file: Path, classes: list[tuple[str, str]]) -> Cells:
    over, found = _over(classes), dict[str, set[str]]()
    for role, purposes, actions, cell_classes, *_ in _rows(file, "p5", 5):
        found.setdefault(role, set()).update(
            cell(purpose, action, each)
            for purpose in purposes.split() for action in actions.split() for each in CLASSES
            if _meets(each, cell_classes, over)
        )  # fmt: skip
    return {role: frozenset(cells) for role, cells in found.items()}


def _cells(file: Path, kinds: dict[str, list[tuple[str, str]]], matrix: Cells | None) -> Cells:
    roles, classes, permits = (_over(kinds[kind]) for kind in ("g", "g2", "g3"))
    rows = _rows(file, "p", 7)

    def covered(role: str) -> frozenset[str]:
        found = {
            cell(purpose, action, each)
            for _, _, who, acts, what, why, _ in rows if _meets(role, who, roles)
            for purpose in PURPOSES if _meets(purpose, why, permits)
            for action in ACTIONS if _meets(action, acts, {})
            for each in CLASSES if _meets(each, what, classes)
        }  # fmt: skip
        return frozenset(found if matrix is None else found & matrix.get(role, frozenset()))

    return {role: covered(role) for role in ROLES}
