"""A moment of fuzzing of each target in every run; `make fuzz` goes on for longer."""

import importlib.util
import os
import random
import subprocess
import sys
from typing import Any

import pytest
from fuzz import targets
from fuzz.run import fuzz_plainly

from ruqsat.core.target import Target
from tests.conftest import ROOT
from tests.ground import is_ci, missing

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SECONDS = 1 if LONGER == 1 else 2 * LONGER
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**31))))


DRAWN = random.Random(SEED).sample([*targets.TARGETS], len(targets.TARGETS) if LONGER > 1 else 2)
"""What reads is fuzzed in turn, two for every change, all in a soak: to watch every line costs ten seconds each."""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(DRAWN)))
def test_nothing_that_a_stranger_sends_is_a_finding(number: int) -> None:
    """With coverage where atheris is installed, which in CI it must be; blindly elsewhere."""
    name = DRAWN[number]
    if is_ci() and importlib.util.find_spec("atheris") is None:
        missing("atheris", "pip install 'ruqsat[test]' (Linux x86_64)")
    command = [sys.executable, "fuzz/run.py", name, "--seconds", str(SECONDS), "--seed", str(SEED)]

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60 + 3 * SECONDS, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])},
    )  # fmt: skip

    assert done.returncode == 0, f"{done.stdout}{done.stderr}"[-4000:]


def takes_the_last_twin(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The reading of one header, that does not see a second one."""
    return dict(headers).get(name) or b""


def keeps_the_last_member(body: bytes) -> None:
    """The check of bodies, that lets a member stand twice."""


@pytest.mark.parametrize(("name", "where", "planted"), [
    ("canonicaliser", "fuzz.targets.parse_target", lambda raw, _: Target("/a/..", ("a", ".."))),
    ("header_adapter", "ruqsat.web.forward_auth.shared.single", takes_the_last_twin),
    ("body_check", "ruqsat.web.wire.refuse_repeated_members", keeps_the_last_member),
    ("token", "ruqsat.service.consistency_token.hmac.compare_digest", lambda *_: True),
])  # fmt: skip
def test_a_planted_hole_is_found(name: str, where: str, planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target notices what it is there for, even blindly."""
    monkeypatch.setattr(where, planted)

    with pytest.raises(AssertionError):
        fuzz_plainly(name, 10, SEED)
