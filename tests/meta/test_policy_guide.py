"""The policy guide, as a person follows it: every edit made, every command run, every line of output compared."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT

GUIDES = {name: ROOT / "docs" / f"policy-guide{name}.md" for name in ("", ".ru", ".kk")}
BLOCK = re.compile(r"^```(console|diff (\S+))\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the blocks of a guide: the file that a block edits (empty: commands), and its text."""
    return [(match.group(2) or "", match.group(3)) for match in BLOCK.finditer(text)]


def make_edit(path: Path, lines: str) -> None:
    """Replace the lines marked `-` by those marked `+`, or append."""
    old, new = ("\n".join(line[2:] for line in lines.splitlines() if line[0] == mark) for mark in "-+")
    text = path.read_text()
    assert text.count(old) == 1 or not old, f"{path.name} does not hold once: {old}"
    path.write_text(text.replace(old, new) if old else text.rstrip("\n") + "\n" + new + "\n")


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that it must print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *expected = part.splitlines()
        yield command, [line for line in expected if line.strip()]


def is_in_order(expected: list[str], printed: list[str]) -> str:
    """Return the first expected line that does not follow; `…` stands for anything."""
    rest = iter(printed)
    for line in expected:
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
        if not any(pattern.fullmatch(each) for each in rest):
            return line
    return ""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the pack, and the command on the path."""
    shutil.copytree(ROOT / "policies", tmp_path / "pack" / "policies")
    shutil.copy(ROOT / "model.conf", tmp_path / "pack")
    script = tmp_path / "bin" / "ruqsat"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ruqsat "$@"\n')
    script.chmod(0o755)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_walk_through_works_as_written(desk: Path) -> None:
    """Add a rule, make three mistakes, test, diff, publish, roll back."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUQSAT_")}
    environment |= {"PATH": f"{desk / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "500"}
    environment["RUQSAT_POLICY_COMPARE_SECONDS"] = "0.5"  # each publication compares; tests/casbin does it in earnest
    try:
        assert follow(GUIDES[""].read_text(), desk, environment) > 25
    finally:
        stop(desk / "serve.pid")


def stop(pid_file: Path) -> None:
    """Stop what the guide started, if a failure left it running."""
    if pid_file.exists():
        with suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


def follow(guide: str, desk: Path, environment: dict[str, str]) -> int:
    """Make every edit and run every command; return how many commands were run."""
    status, ran = 0, 0
    for file, text in blocks(guide):
        if file:
            make_edit(desk / "pack" / file, text)
            continue
        for command, expected in commands(text):
            done = subprocess.run(
                ["bash", "-c", f"(exit {status}); {command}"], cwd=desk / "pack", env=environment, timeout=600,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            status, ran = done.returncode, ran + 1
            missing = is_in_order(expected, done.stdout.splitlines())
            assert not missing, f"$ {command}\nexpected: {missing}\nprinted:\n{done.stdout}{done.stderr}"
    return ran


def test_the_three_guides_show_the_same_commands_and_edits() -> None:
    """What the test runs in English is what a reader of Russian or Kazakh types."""
    english = blocks(GUIDES[""].read_text())

    for name in (".ru", ".kk"):
        assert blocks(GUIDES[name].read_text()) == english
        assert len(re.findall(r"^## ", GUIDES[name].read_text(), re.MULTILINE)) == 8


def test_the_check_of_the_guide_can_fail() -> None:
    """A line that was not printed, or in another order, is found."""
    assert is_in_order(["a … c"], ["x", "a b c"]) == ""
    assert is_in_order(["a", "b"], ["b", "a"]) == "b"
    assert is_in_order(["34 rules"], ["33 rules"]) == "34 rules"
