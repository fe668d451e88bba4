"""
The Merkle tree of RFC 6962 (§2.1) and RFC 9162 (§2.1): roots, and proofs that are short.

With the root of a tree in hand, a proof of some twenty hashes shows that one leaf is
in it (inclusion), or that an older, smaller tree is its beginning (consistency).
Whoever gave out a root can no longer change, add or remove a leaf before its size
without the next proof failing.

Leaves are given as their hashes (:func:`leaf_hash`).
"""

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256().digest()
"""The root of a tree without a leaf."""

_LEAF, _NODE = sha256(b"\x00"), sha256(b"\x01")  # copying one costs half of asking for a new one


def leaf_hash(data: bytes) -> bytes:
    """
    Return the hash of a leaf; the prefix keeps leaves and nodes apart.

    Examples:
        >>> leaf_hash(b"").hex()[:16]
        '6e340b9cffb37a98'
    """
    digest = _LEAF.copy()
    digest.update(data)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above *left* and *right*."""
    digest = _NODE.copy()
    digest.update(left + right)
    return digest.digest()


class Frontier:
    """
    A tree that grows leaf by leaf and keeps only what its root needs: one hash for each bit of its size.

    Examples:
        >>> tree = Frontier()
        >>> tree.root() == EMPTY_ROOT
        True
        >>> for data in (b"a", b"b", b"c"):
        ...     tree.add(leaf_hash(data))
        >>> tree.size, tree.root() == root([leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")])
        (3, True)
    """

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Put *leaf* at the end."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._whole.pop(), leaf)
            size >>= 1
        self._whole.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the tree as it stands."""
        if not self._whole:
            return EMPTY_ROOT
        above = self._whole[-1]
        for left in reversed(self._whole[:-1]):
            above = node_hash(left, above)
        return above


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over *leaves* (RFC 6962 §2.1, ``MTH``)."""
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def prove_inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """
    Return what, with the leaf at *index*, leads to the root over *leaves* (RFC 6962 §2.1.1, ``PATH``).

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} in a tree of {len(leaves)}")
    return _path(leaves, index)


def prove_inclusions(leaves: Sequence[bytes], indices: Sequence[int]) -> list[list[bytes]]:
    """
    Return the proofs of many leaves, each as ``prove_inclusion`` makes it; every node is worked out once.

    Examples:
        >>> tree = [leaf_hash(bytes([number])) for number in range(7)]
        >>> prove_inclusions(tree, range(7)) == [prove_inclusion(tree, number) for number in range(7)]
        True
    """
    level, places = list(leaves), list(indices)
    paths: list[list[bytes]] = [[] for _ in places]
    while len(level) > 1:
        for path, place in zip(paths, places, strict=True):
            if place ^ 1 < len(level):  # the last of an odd level has no neighbour, and moves up as it is
                path.append(level[place ^ 1])
        places = [place >> 1 for place in places]
        last = level[-1:] if len(level) & 1 else []
        level = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)] + last
    return paths


def prove_consistency(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """
    Return what shows that the first *old_size* of *leaves* are the beginning of all (RFC 6962 §2.1.2, ``PROOF``).

    Raises:
        ValueError: there were never so many leaves.
    """
    if not 0 <= old_size <= len(leaves):
        raise ValueError(f"a tree of {len(leaves)} never had {old_size} leaves")
    return _subproof(leaves, old_size, is_known=True) if old_size else []


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Tell whether *path* leads from *leaf* at *index* to the root of a tree of *size* (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, above = index, size - 1, leaf
    for step in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            above = node_hash(step, above)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            above = node_hash(above, step)
        position, last = position >> 1, last >> 1
    return last == 0 and above == expected


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:  # fmt: skip
    """
    Tell whether *path* shows the tree of *old_root* to be the beginning of that of *new_root* (RFC 9162 §2.1.4.2).

    The empty tree is the beginning of every tree, if its root is the one of the empty tree.
    """
    if not 0 <= old_size <= new_size:
        return False
    if old_size in (0, new_size):
        return not path and (old_root == new_root if old_size == new_size else old_root == EMPTY_ROOT)
    steps = [*path] if old_size & (old_size - 1) else [old_root, *path]
    return bool(steps) and _climb(old_size - 1, new_size - 1, steps) == (old_root, new_root)


def _climb(position: int, last: int, steps: list[bytes]) -> tuple[bytes, bytes] | None:
    """Return the two roots that *steps* lead to; None if they are too few or too many."""
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return None
        if position & 1 or position == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, step)
        position, last = position >> 1, last >> 1
    return (old, new) if last == 0 else None


def _split(size: int) -> int:
    """Return the largest power of two below *size*."""
    return 1 << (size - 1).bit_length() - 1


def _path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    left, right = leaves[:middle], leaves[middle:]
    if index < middle:
        return [*_path(left, index), root(right)]
    return [*_path(right, index - middle), root(left)]


def _subproof(leaves: Sequence[bytes], old_size: int, *, is_known: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if is_known else [root(leaves)]
    middle = _split(len(leaves))
    left, right = leaves[:middle], leaves[middle:]
    if old_size <= middle:
        return [*_subproof(left, old_size, is_known=is_known), root(right)]
    return [*_subproof(right, old_size - middle, is_known=False), root(left)]
