"""Fixtures that every room's tests share: the pack of this checkout, compiled, and its synthetic world."""

from pathlib import Path

import pytest

from ruqsat.core.cases import read_world
from ruqsat.core.diagnostics import render
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.world import World
from ruqsat.stores.policy_folder import load_texts

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def pack_texts() -> dict[str, bytes]:
    """The files of the pack."""
    return load_texts(ROOT)


@pytest.fixture(scope="session")
def policy_set(pack_texts: dict[str, bytes]) -> PolicySet:
    """The pack, compiled."""
    compiled, findings = load_pack(pack_texts)
    assert compiled is not None, "\n".join(map(render, findings))
    return compiled


@pytest.fixture(scope="session")
def world(pack_texts: dict[str, bytes]) -> World:
    """The synthetic world of the pack."""
    return read_world(pack_texts, "policies/fixtures/world.toml")
