"""
The functions that matchers and conditions may call.

They take plain values or whole entities and answer yes or no.  A cell of several
words is text divided by blanks (``read search``), ``*`` is any, ``-`` is none.
The same functions, registered with stock pycasbin, make it the oracle of our
compiler.

A function of a covering test (``m2``…``m5``) carries a *miss*: the word by which
a denial tells which criterion failed.  A *gate* stops the exceptions beneath a
provision as well: purpose and term of a node bind its whole subtree.
"""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ruqsat.core.cells import Cell, split, words
from ruqsat.core.circumstances import build_circumstances, harmless_labels
from ruqsat.core.facts import Grantee
from ruqsat.core.function import Function
from ruqsat.core.hierarchy import Hierarchies
from ruqsat.core.instant import Instant, Now
from ruqsat.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ruqsat.core.case import ContextView, ResourceView, SubjectView

_KEPT = 8192
"""Answers kept per word function; they depend on nothing but their arguments and the pack."""


_NOBODY = Grantee()


def bound(cell: Instant | str | None) -> Instant | None:
    """Return an instant from a cell: microseconds, ``-`` or an empty cell for none."""
    if isinstance(cell, str):
        return None if cell in ("-", "") else int(cell)
    return cell


@lru_cache(maxsize=4096)
def read_grantees(text: str) -> tuple[Grantee, ...]:
    """
    Read ``org=h1+role=nurse subject=dr7``: alternatives divided by blanks, parts joined by ``+``.

    ``*`` is an entry that states nothing (see :func:`naming`).

    Examples:
        >>> read_grantees("org=h1+role=nurse")
        (Grantee(org='h1', subject=None, role='nurse', group=None),)
    """
    return tuple(
        Grantee() if entry == "*" else Grantee(**dict(part.split("=", 1) for part in entry.split("+")))
        for entry in split(text)
    )


def write_grantees(grantees: tuple[Grantee, ...]) -> str:
    """Write grantees as :func:`read_grantees` reads them."""
    entries = (
        "+".join(f"{name}={value}" for name in ("org", "subject", "role", "group") if (value := getattr(entry, name)))
        or "*"
        for entry in grantees
    )
    return " ".join(entries) or "-"


def build_functions(vocabulary: Vocabulary, hierarchies: Hierarchies) -> dict[str, Function]:
    """Return the word functions, bound to the pack's words and hierarchies (the sections' come beside them)."""
    switches = vocabulary.switches
    harmless = harmless_labels(vocabulary)
    roles, classes, permits = hierarchies.roles, hierarchies.classes, hierarchies.permits
    denials, labels_tree = hierarchies.denials, hierarchies.labels
    known = {
        "purpose": {*vocabulary.purposes}, "action": {*vocabulary.actions}, "label": {*vocabulary.labels},
        "class": {*vocabulary.classes, *vocabulary.class_groups},
    }  # fmt: skip

    def strange(asked: tuple[str, ...], kind: str) -> bool:
        """A denial names a word that nobody knows any more: it may stand for any."""
        return not known[kind].issuperset(asked)

    @lru_cache(maxsize=_KEPT)
    def holds(held: tuple[str, ...], cell: Cell) -> bool:
        asked = words(cell)
        return "*" in asked or any(roles.meets(role, asked) for role in held)

    @lru_cache(maxsize=_KEPT)
    def acts(name: str, cell: Cell) -> bool:
        asked = words(cell)
        return name in asked or "*" in asked

    @lru_cache(maxsize=_KEPT)
    def touches(data_class: str | None, cell: Cell) -> bool:
        asked = words(cell)
        return "*" in asked or (data_class is not None and classes.meets(data_class, asked))

    @lru_cache(maxsize=_KEPT)
    def covers(stated: tuple[str, ...], cell: Cell) -> bool:
        asked = words(cell)
        return "*" in asked or (bool(stated) and all(permits.meets(purpose, asked) for purpose in stated))

    @lru_cache(maxsize=_KEPT)
    def states(stated: tuple[str, ...], cell: Cell) -> bool:
        asked = words(cell)
        return bool(stated) and all(purpose in asked for purpose in stated)

    @lru_cache(maxsize=_KEPT)
    def about(stated: tuple[str, ...], cell: Cell, effect: str) -> bool:
        asked = words(cell)
        if effect == "deny":
            return not asked or strange(asked, "purpose") or any(denials.meets(purpose, asked) for purpose in stated)
        return bool(stated) and all(permits.meets(purpose, asked) for purpose in stated)

    @lru_cache(maxsize=_KEPT)
    def doing(name: str, cell: Cell, effect: str) -> bool:
        asked = words(cell)
        if effect == "deny":
            return not asked or strange(asked, "action") or name in asked
        return name in (asked or ("read", "search"))

    @lru_cache(maxsize=_KEPT)
    def concerning(data_class: str | None, cell: Cell, effect: str) -> bool:
        asked = words(cell)
        if effect == "deny" and (not asked or data_class is None or strange(asked, "class")):
            return True
        return data_class is not None and classes.meets(data_class, asked)

    @lru_cache(maxsize=_KEPT)
    def labelled(stated: tuple[str, ...] | None, cell: Cell, effect: str) -> bool:
        asked = words(cell)
        if effect == "deny":
            # On a record, too, a word that nobody knows may stand for any.
            return (
                not asked
                or stated is None
                or strange(asked, "label")
                or any(label not in vocabulary.labels or labels_tree.meets(label, asked) for label in stated)
            )
        if effect == "permit" and not switches.sensitive_requires_explicit:
            return True
        if stated is None:
            return False
        return all(label in harmless or labels_tree.meets(label, asked) for label in stated)

    return {
        "holds": Function(holds, 2, "role", reach=lambda held: {up for role in held for up in roles.above(role)}),
        "acts": Function(acts, 2, "action", reach=lambda name: (name,)),
        "touches": Function(touches, 2, "action", reach=lambda name: classes.above(name) if name else ()),
        "covers": Function(covers, 2, "purpose", reach=lambda stated: permits.above(stated[0]) if stated else ()),
        "states": Function(states, 2, "purpose"),
        "in_force": Function(in_force, 4, "expired", gate=True),
        "about": Function(about, 3, "purpose", gate=True),
        "names": Function(naming(vocabulary.roles.keys()), 3, "recipient"),
        "doing": Function(doing, 3, "action"),
        "concerning": Function(concerning, 3, "category"),
        "labelled": Function(labelled, 3, "sensitivity"),
        "is_same": Function(is_same, 2, "subject_mismatch"),
        "is_known": Function(is_known, 2),
        "is_self": Function(is_self, 2, takes=("sub", "res")),
        "is_requested_by": Function(is_requested_by, 2),
    } | build_circumstances(vocabulary)


def in_force(now: Now, since: Instant | str | None, until: Instant | str | None, effect: str) -> bool:
    """
    Tell whether ``[since, until)`` holds now: surely for a permit, possibly for a denial.

    Examples:
        >>> in_force(Now(5, 9), 1, 7, "permit"), in_force(Now(5, 9), 1, 7, "deny")
        (False, True)
        >>> in_force(Now(7, 7), 1, 7, "permit"), in_force(Now(7, 7), 1, 7, "deny")
        (False, False)
    """
    start = bound(since) if isinstance(since, str) else since
    end = bound(until) if isinstance(until, str) else until
    if effect == "deny":
        return (start is None or start <= now.hi) and (end is None or now.lo < end)
    return (start is None or start <= now.lo) and (end is None or now.hi < end)


def naming(known: Collection[str]) -> Callable[..., bool]:
    """Return the function that tells whom a provision names, where these roles are known."""

    def names(sub: "SubjectView", cell: str | tuple[Grantee, ...], effect: str) -> bool:
        """
        Tell whether a provision names the subject.

        A list or an entry that states nothing is nobody on a permit and everybody on a denial, and
        so is a role that nobody knows.
        """
        grantees = read_grantees(cell) if isinstance(cell, str) else cell
        if not grantees:
            return effect == "deny"
        for grantee in grantees:
            if (
                (grantee.org is None or grantee.org == sub.org)
                and (grantee.subject is None or grantee.subject == sub.id)
                and (
                    grantee.role is None
                    or grantee.role in sub.roles
                    or (effect == "deny" and grantee.role not in known)
                )
                and (grantee.group is None or grantee.group in sub.groups)
                and (effect == "deny" or grantee.org is not None or grantee != _NOBODY)
            ):
                return True
        return False

    return names


def is_requested_by(ctx: "ContextView", authorities: str) -> bool:
    """Tell whether the request of an authority comes from one of these kinds of authority."""
    said = ctx.said().legal_request
    return said is not None and said.authority in words(authorities)


def is_same(left: str, right: str) -> bool:
    """Tell whether two ids are the same, letter by letter."""
    return left == right


def is_known(entity: Any, name: str) -> bool:
    """Tell whether an optional attribute is there."""
    return getattr(entity, name, None) is not None


def is_self(sub: "SubjectView", res: "ResourceView") -> bool:
    """Tell whether the record is about the subject itself (order §28)."""
    return sub.patient_id is not None and sub.patient_id == res.patient
