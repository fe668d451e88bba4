"""Hierarchies of words: who is whose kind, closed over any number of links."""

from collections.abc import Iterable

MAX_LINKS = 9


class Hierarchy:
    """
    The links of one ``g`` section, closed transitively; a word is its own kind.

    ``too_deep`` is a word with more than ``MAX_LINKS`` links one above the other, if there
    is one: stock pycasbin stops looking there without a word, so such a pack is refused.

    Examples:
        >>> h = Hierarchy([("labs", "clinical"), ("clinical", "everything")])
        >>> sorted(h.above("labs")), sorted(h.above("x"))
        (['clinical', 'everything', 'labs'], ['x'])
    """

    __slots__ = ("_above", "too_deep")

    def __init__(self, links: Iterable[tuple[str, str]]) -> None:
        direct: dict[str, set[str]] = {}
        for member, group in links:
            direct.setdefault(member, set()).add(group)
        self.too_deep: str | None = None
        self._above: dict[str, frozenset[str]] = {}
        for word in direct:
            above, is_whole = _closure(word, direct)
            self._above[word] = frozenset(above)
            if not is_whole:
                self.too_deep = self.too_deep or word

    def above(self, word: str) -> frozenset[str]:
        """Return *word* and everything that it is a kind of."""
        return self._above.get(word) or frozenset((word,))

    def meets(self, word: str, groups: Iterable[str]) -> bool:
        """Tell whether *word* is, or is a kind of, one of *groups*."""
        above = self._above.get(word)
        return any(group == word or (above is not None and group in above) for group in groups)

    def cycle(self) -> str | None:
        """Return a word that is above itself through others, or None."""
        for word, above in self._above.items():
            if any(word in self._above.get(other, ()) for other in above if other != word):
                return word
        return None


class Hierarchies:
    """The pack's hierarchies by what they order."""

    __slots__ = ("by_key", "classes", "denials", "labels", "permits", "roles")

    def __init__(self, links: dict[str, list[tuple[str, str]]]) -> None:
        self.by_key = {key: Hierarchy(links.get(key, [])) for key in ("g", "g2", "g3", "g4", "g5")}
        self.roles, self.classes, self.permits, self.denials, self.labels = self.by_key.values()


def _closure(word: str, direct: dict[str, set[str]]) -> tuple[set[str], bool]:
    """Return what stands above *word*, itself included, and whether that is all."""
    seen, level = {word}, {word}
    for _ in range(MAX_LINKS):
        level = {group for each in level for group in direct.get(each, ())} - seen
        seen |= level
    return seen, not any(group not in seen for each in level for group in direct.get(each, ()))
