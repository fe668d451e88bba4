"""Fixtures that every room's tests share: the pack of this checkout, compiled, and its synthetic world."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ruqsat.core.admission import load_routes
from ruqsat.core.cases import read_world
from ruqsat.core.diagnostics import render
from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.pack import Parts, load_pack, read_parts, variants_of
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.world import World
from ruqsat.stores.policy_folder import load_texts

pytest_plugins = ["tests.ground"]

ROOT = Path(__file__).resolve().parent.parent

LONGEST = (
    "chaos/test_chaos.py", "proxies/test_fail_closed.py", "conformance/test_guards.py", "process/test_degraded.py",
    "policies/test_hostile_packs.py", "process/test_barrier.py", "process/test_duties.py", "meta/test_policy_guide.py",
    "process/test_stop.py", "conformance/test_over_http.py", "chaos/test_openapi.py", "conformance/test_worlds.py",
    "process/test_kill9.py", "casbin/test_decider.py", "process/test_under_pressure.py",
    "admission/test_policy_follower.py", "proxies/test_break_glass.py", "casbin/test_compiled_enforcer.py",
    "chaos/test_kill9.py", "wire/test_vectors.py", "process/test_policy_from_database.py", "wire/test_inject.py",
    "chaos/test_token.py", "chaos/test_planted.py", "admission/test_administration_point.py", "journal/test_kill9.py",
    "admission/test_policy_in_force.py",
)  # fmt: skip
"""
Files of many seconds, which begin first: begun last, one of them would keep one worker busy and the others idle.
Those that wait for processes and leases stand between those that compute.
"""


DRAW = os.environ.get("RUQSAT_TEST_DRAW")
"""Where it is set, a seed: of the slow tests of each file one half is run, drawn by it.  `.ci/run` sets it anew each time."""

NEVER_LEFT_OUT = ("tests/conformance/", "tests/meta/")
"""What tells whether a change keeps the promises: that must not hang on the day's draw."""


def pytest_report_header() -> str | None:
    """Say it where not every test is run."""
    return None if DRAW is None else f"RUQSAT_TEST_DRAW={DRAW}: of most slow tests one half; without it all"


def left_out(items: list[pytest.Item], draw: str) -> set[pytest.Item]:
    """Return the slow tests that are not run today: at most the half of any file's, so that each file runs some."""
    slow: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow") is not None and not item.nodeid.startswith(NEVER_LEFT_OUT):
            slow.setdefault(item.nodeid.partition("::")[0], []).append(item)
    return {
        item
        for file, those in slow.items()
        for item in Random(f"{draw} {file}").sample(sorted(those, key=lambda each: each.nodeid), len(those) // 2)
    }


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long files; within a file, and among the others, the order stays."""
    if DRAW is not None and (gone := left_out(items, DRAW)):
        config.hook.pytest_deselected(items=[*gone])
        items[:] = [item for item in items if item not in gone]
    place = {f"tests/{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def pytest_collection_finish() -> None:
    """Hide what tests are told by the environment, once they have read it: the product refuses settings it does not know."""
    for name in [name for name in os.environ if name.startswith("RUQSAT_TEST_")]:
        del os.environ[name]


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
def parts(pack_texts: dict[str, bytes]) -> Parts:
    """The pack, read and checked."""
    read, findings = read_parts(pack_texts)
    assert read is not None, "\n".join(map(render, findings))
    return read


@pytest.fixture(scope="session")
def variant(parts: Parts) -> Callable[[Mapping[str, Any]], PolicySet]:
    """The pack's rules under other switches."""
    return variants_of(parts)


@pytest.fixture(scope="session")
def fhir_words(pack_texts: dict[str, bytes], policy_set: PolicySet) -> FhirWords:
    """What the pack says of FHIR servers."""
    routes, findings = load_routes(pack_texts, policy_set)
    assert routes is not None, "\n".join(map(render, findings))
    assert routes.fhir is not None
    return routes.fhir


@pytest.fixture(scope="session")
def world(pack_texts: dict[str, bytes]) -> World:
    """The synthetic world of the pack."""
    return read_world(pack_texts, "policies/fixtures/world.toml")
