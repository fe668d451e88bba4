"""The Merkle tree against the reference vectors of Certificate Transparency, and against itself."""

from collections.abc import Sequence
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core import merkle
from ruqsat.core.merkle import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root,
    verify_consistency,
    verify_inclusion,
)
from tests.mutants import plant

# The vectors of the reference implementations: certificate-transparency, transparency-dev/merkle.
LEAVES = [leaf_hash(bytes.fromhex(each)) for each in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [bytes.fromhex(each) for each in (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)]  # fmt: skip
INCLUSION: list[tuple[int, int, list[str]]] = [
    (0, 1, []),
    (0, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (5, 8, ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
]  # fmt: skip
CONSISTENCY: list[tuple[int, int, list[str]]] = [
    (1, 1, []),
    (1, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    (2, 5, ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
    (6, 7, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
]  # fmt: skip

sizes = st.integers(1, 40)


def hexed(path: Sequence[bytes]) -> list[str]:
    """Return a path as the vectors write it."""
    return [each.hex() for each in path]


def wrong_paths(path: list[bytes]) -> list[list[bytes]]:
    """Return paths that are not *path*: a bit turned, one more, one less, two exchanged."""
    turned = [[*path[:n], bytes([step[0] ^ 8]) + step[1:], *path[n + 1 :]] for n, step in enumerate(path)]
    more = [[*path, EMPTY_ROOT], [EMPTY_ROOT, *path], [*path, b""]]
    less = [path[:-1], path[1:]] if path else []
    return [*turned, *more, *less, *([[path[1], path[0], *path[2:]]] if len(path) > 1 else [])]


def test_roots_are_those_of_the_reference() -> None:
    """The roots of the first none to eight reference leaves are reproduced."""
    assert [root(LEAVES[:size]) for size in range(9)] == ROOTS
    assert ROOTS[0] == EMPTY_ROOT


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference(index: int, size: int, path: list[str]) -> None:
    """A reference path is made, is accepted, and is not accepted with anything changed."""
    made = prove_inclusion(LEAVES[:size], index)

    assert hexed(made) == path
    assert verify_inclusion(LEAVES[index], index, size, made, ROOTS[size])
    assert not any(verify_inclusion(LEAVES[index], index, size, wrong, ROOTS[size]) for wrong in wrong_paths(made))
    for other in (index - 1, index + 1, index ^ 2):
        assert not verify_inclusion(LEAVES[index], other, size, made, ROOTS[size])
    for other in (0, size * 2, size // 2):
        assert not verify_inclusion(LEAVES[index], index, other, made, ROOTS[size])


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference(old: int, new: int, path: list[str]) -> None:
    """A reference proof is made, is accepted, and is not accepted with anything changed."""
    made = prove_consistency(LEAVES[:new], old)

    assert hexed(made) == path
    assert verify_consistency(old, new, ROOTS[old], ROOTS[new], made)
    assert not any(verify_consistency(old, new, ROOTS[old], ROOTS[new], wrong) for wrong in wrong_paths(made))
    if old != new:
        assert not verify_consistency(old, new, ROOTS[new], ROOTS[old], made)
        assert not verify_consistency(old, new, ROOTS[old], ROOTS[new], [])
        for changed_old, changed_new in (
            (old - 1, new),
            (old + 1, new),
            (old ^ 2, new),
            (old, new * 2),
            (old, new // 2),
        ):
            assert not verify_consistency(changed_old, changed_new, ROOTS[old], ROOTS[new], made)


def test_proofs_of_nothing() -> None:
    """Nothing is included in an empty tree; a tree follows the empty one, and never goes back."""
    assert not verify_inclusion(EMPTY_ROOT, 0, 0, [], EMPTY_ROOT)
    assert not verify_inclusion(EMPTY_ROOT, -1, 1, [], EMPTY_ROOT)
    assert verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, prove_consistency([], 0))
    assert verify_consistency(0, 3, EMPTY_ROOT, ROOTS[3], prove_consistency(LEAVES[:3], 0))
    assert not verify_consistency(0, 3, ROOTS[1], ROOTS[3], [])
    assert not verify_consistency(0, 3, EMPTY_ROOT, ROOTS[3], [ROOTS[1]])
    assert not verify_consistency(2, 1, ROOTS[2], ROOTS[1], [])
    assert not verify_consistency(1, 2, ROOTS[1], ROOTS[2], [])
    with pytest.raises(ValueError, match="no leaf 3 in a tree of 3"):
        prove_inclusion(LEAVES[:3], 3)
    with pytest.raises(ValueError, match="never had 4"):
        prove_consistency(LEAVES[:3], 4)


@settings(deadline=None)
@given(size=sizes, data=st.data())
def test_every_leaf_is_included_and_no_other_is(size: int, data: st.DataObject) -> None:
    """In a tree of any size the proof of any leaf holds, and of no other leaf at that place."""
    leaves = [leaf_hash(b"%d" % each) for each in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = prove_inclusion(leaves, index)

    assert verify_inclusion(leaves[index], index, size, path, root(leaves))
    assert not verify_inclusion(leaf_hash(b"other"), index, size, path, root(leaves))
    assert not any(verify_inclusion(leaves[index], index, size, wrong, root(leaves)) for wrong in wrong_paths(path))


@settings(deadline=None)
@given(size=sizes, data=st.data())
def test_a_tree_grows_and_is_never_rewritten(size: int, data: st.DataObject) -> None:
    """From any older size there is a proof; one changed leaf in the beginning and there is none."""
    leaves = [leaf_hash(b"%d" % each) for each in range(size)]
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [leaf_hash(b"other") if at == changed else leaf for at, leaf in enumerate(leaves)]

    assert verify_consistency(old, size, root(leaves[:old]), root(leaves), prove_consistency(leaves, old))
    for path in (prove_consistency(leaves, old), prove_consistency(rewritten, old)):
        assert not verify_consistency(old, size, root(leaves[:old]), root(rewritten), path)


@given(size=st.integers(0, 70))
def test_growing_tree_has_the_root_of_the_whole_one(size: int) -> None:
    """Leaf by leaf comes to what the recursive definition of the RFC says."""
    leaves = [leaf_hash(b"%d" % each) for each in range(size)]
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)

    assert (tree.size, tree.root()) == (size, by_definition(leaves))


def by_definition(leaves: list[bytes]) -> bytes:
    """Return the root as RFC 6962 §2.1 defines it, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return merkle.node_hash(by_definition(leaves[:middle]), by_definition(leaves[middle:]))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('sha256(b"\\x00"), sha256(b"\\x01")', 'sha256(), sha256(b"\\x01")'),
        ('sha256(b"\\x00"), sha256(b"\\x01")', 'sha256(b"\\x00"), sha256()'),
        ("return [*_path(right, index - middle), root(left)]", "return [*_path(right, index - middle), root(right)]"),
        ("    return last == 0 and above == expected", "    return above == expected"),
        ("return (old, new) if last == 0 else None", "return (old, new)"),
        ("old, new = node_hash(step, old), node_hash(step, new)", "new = node_hash(step, new)"),
    ],
)  # fmt: skip
def test_planted_mistakes_are_noticed_by_the_vectors(right: str, wrong: str) -> None:
    """A tree without its prefixes, a proof of the wrong side, a check that ends early: each contradicts a vector."""
    assert keeps_the_vectors(merkle)
    assert not keeps_the_vectors(plant(merkle, right, wrong))


def keeps_the_vectors(tree: ModuleType) -> bool:
    """Tell whether *tree* makes the reference's proofs, and accepts these and nothing shorter."""
    leaves = [tree.leaf_hash(bytes.fromhex(each)) for each in ("", "00", "10", "2021", "3031")]
    if tree.root(leaves) != ROOTS[5] or hexed(tree.prove_inclusion(LEAVES, 5)) != INCLUSION[2][2]:
        return False
    included = tree.prove_inclusion(LEAVES, 5)
    older, shorter = tree.prove_consistency(LEAVES, 6), tree.prove_consistency(LEAVES[:7], 6)
    return (
        tree.verify_inclusion(LEAVES[5], 5, 8, included, ROOTS[8])
        and not tree.verify_inclusion(LEAVES[0], 0, 8, INCLUSION_OF_A_NODE, NODE_ROOT)
        and tree.verify_consistency(6, 8, ROOTS[6], ROOTS[8], older)
        and not tree.verify_consistency(6, 8, ROOTS[5], ROOTS[8], older)
        and not tree.verify_consistency(6, 15, ROOTS[6], ROOTS[7], shorter)
    )


INCLUSION_OF_A_NODE: list[bytes] = []
NODE_ROOT = LEAVES[0]
"""A path that is too short, and the root it leads to."""
