"""
Role links as pycasbin's role managers hold them, copied once and never changed after.

A reader asks the copy; the role manager itself makes roles while it is asked, so
that two threads cannot ask it at the same time.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from casbin.rbac.default_role_manager import DomainManager, RoleManager

# What ``g`` answers as long as nobody asks for patterns among names.
_EXACT = DomainManager(1).matching_func.__code__

Links = Mapping[str, tuple[str, ...]]


class RoleLinks:
    """
    Who is linked to whom, in one domain or in many.

    Args:
        depth: How many links may be followed, pycasbin's level less one.
        domains: By domain, from each name to the names it is linked to.
        has_domains: False when the definition has no domain: then the third argument of ``g`` means nothing.
    """

    def __init__(self, depth: int, domains: Mapping[str, Links], *, has_domains: bool) -> None:
        self._depth = depth
        self._domains = domains
        self._has_domains = has_domains
        self._reached: dict[tuple[str, str], frozenset[str]] = {}

    def reach(self, name: str, domain: str = "") -> frozenset[str]:
        """Return the name itself and every name that it is linked to within the depth."""
        if not self._has_domains:
            domain = ""
        links = self._domains.get(domain, {})
        if name not in links:
            return frozenset((name,))  # a stranger: not remembered, or asking would fill the memory
        known = self._reached.get((name, domain))
        return known if known is not None else self._reached.setdefault((name, domain), self._closure(name, links))

    def has_link(self, *arguments: object) -> bool:
        """Answer ``g`` for text arguments; anything else raises ``TypeError``, for pycasbin to answer."""
        name, role = arguments[:2]
        if type(name) is not str or type(role) is not str:
            raise TypeError("g is compiled for text only")
        return role in self.reach(name, str(arguments[2]) if len(arguments) > 2 else "")

    def _closure(self, name: str, links: Links) -> frozenset[str]:
        reached = {name}
        front = [name]
        for _ in range(self._depth):
            front = [role for each in front for role in links.get(each, ()) if role not in reached]
            if not front:
                break
            reached.update(front)
        return frozenset(reached)


def copy_of(manager: Any) -> RoleLinks | None:
    """Return the links of a role manager, or None when it does more than follow links between equal names."""
    if type(manager) in (RoleManager, DomainManager) and manager.max_hierarchy_level < 1:
        return None  # then nobody is linked even to itself
    if type(manager) is RoleManager and manager.matching_func is None:
        return RoleLinks(manager.max_hierarchy_level - 1, {"": _links_of(manager)}, has_domains=False)
    if type(manager) is DomainManager and _is_exact(manager.matching_func) and manager.domain_matching_func is None:
        domains = {domain: _linked(links) for domain, links in manager.all_links.items()}
        domains |= {domain: _links_of(inner) for domain, inner in manager.rm_map.items()}
        return RoleLinks(manager.max_hierarchy_level - 1, domains, has_domains=True)
    return None


def _is_exact(function: Callable[..., object]) -> bool:
    return getattr(function, "__code__", None) is _EXACT


def _links_of(manager: RoleManager) -> Links:
    return {name: tuple(role.name for role in node.roles) for name, node in manager.all_roles.items() if node.roles}


def _linked(pairs: Iterable[tuple[str, str]]) -> Links:
    links: dict[str, dict[str, None]] = {}
    for name, role in pairs:
        links.setdefault(name, {})[role] = None
    return {name: tuple(roles) for name, roles in links.items()}
