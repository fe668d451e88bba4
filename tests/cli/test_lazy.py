"""Commands come when they are asked for, and every one of them comes."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ruqsat.cli import main, policy
from tests.conftest import ROOT

ASK = """
import sys
from ruqsat.cli.main import run
sys.argv = ["ruqsat", *{words!r}]
try:
    run()
finally:
    print([name for name in ("fastapi", "sqlalchemy", "uvicorn", "casbin") if name in sys.modules], file=sys.stderr)
"""
LISTED = [(name,) for name in main._PLACES] + [("policy", name) for name in policy._ELSEWHERE]


@pytest.mark.parametrize(
    ("words", "imported"),
    [
        (("--version",), "[]"), (("policy", "check", str(ROOT)), "[]"), (("policy", "test", str(ROOT)), "[]"),
        (("db", "--help"), "['sqlalchemy']"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)  # fmt: skip
def test_who_checks_a_policy_does_not_wait_for_the_server(words: tuple[str, ...], imported: str) -> None:
    """Its libraries are not imported; a command that needs one has it."""
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(words=list(words))], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stderr.splitlines()[-1] == imported


@pytest.mark.parametrize("words", LISTED, ids=" ".join)
def test_every_command_says_what_it_does(words: tuple[str, ...]) -> None:
    """In its own help and in the list, and under the name by which it is called."""
    own = CliRunner().invoke(main.app, [*words, "--help"])
    listed = CliRunner().invoke(main.app, [*words[:-1], "--help"])

    assert (own.exit_code, listed.exit_code) == (0, 0)
    assert f"Usage: ruqsat {' '.join(words)} " in own.stdout.replace("root", "ruqsat", 1)
    assert f" {words[-1]} " in listed.stdout
    assert "completion" not in own.stdout


@pytest.mark.parametrize(("words", "meant"), [(["polcy"], "policy"), (["policy", "publis"], "publish")])
def test_a_mistyped_command_is_told_what_was_meant(words: list[str], meant: str) -> None:
    """Also where that command was not imported yet."""
    told = CliRunner().invoke(main.app, words)

    assert told.exit_code == 2
    assert f"'{meant}'" in told.output
