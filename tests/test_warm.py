"""What is started warm ends, is told and is signalled as what is started anew."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.process.starter import environment, run_cli, serving

pytestmark = pytest.mark.skipif(warm.COLD, reason="everything is started anew here")


@pytest.mark.slow
def test_a_fork_says_and_ends_as_a_process_of_its_own_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words, the same exit code, for what is good, what is a mistake, and what is an error of ours."""
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    asked: tuple[tuple[str, ...], ...] = (
        ("--version",),
        ("policy", "no-such"),
        ("explain", str(broken)),
        ("policy", "check", "."),
    )
    told = [run_cli(tmp_path, *words) for words in asked]
    monkeypatch.setattr(warm, "COLD", True)
    anew = [run_cli(tmp_path, *words) for words in asked]

    assert [each.returncode for each in told] == [0, 2, 2, 2]
    for fork, process in zip(told, anew, strict=True):
        assert (fork.returncode, fork.stdout, fork.stderr) == (process.returncode, process.stdout, process.stderr)


def started(folder: Path, *words: str, **settings: str) -> Any:
    """Start the command line without waiting for it."""
    with (folder / "out").open("wb") as out:
        return warm.start(words, stdout=out, stderr=out, env=environment(folder, **settings), cwd=folder)


def test_its_environment_and_its_folder_are_its_own(tmp_path: Path) -> None:
    """Nothing of the process that it was forked from, and nothing of another fork, is seen in it."""
    with serving(tmp_path / "one") as one, serving(tmp_path / "two") as two:
        for each, folder in ((one, "one"), (two, "two")):
            assert Path(os.readlink(f"/proc/{each.pid}/cwd")) == tmp_path / folder
            assert [*(tmp_path / folder / "journal").iterdir()], "the journal is elsewhere"
        keys = {each.tokens["dr_aida"].rpartition(".")[2] for each in (one, two)}
        assert len(keys) == 2, "two forks drew the same key"


def test_how_it_ended_is_kept_until_somebody_asks(tmp_path: Path) -> None:
    """A signal is told as its negative number, a wait that is too short says so, and the dead can be signalled again."""
    with serving(tmp_path) as sidecar:
        process = sidecar.process
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        os.kill(process.pid, signal.SIGKILL)
        os.kill(process.pid, signal.SIGKILL)
        assert (process.wait(20), process.poll(), process.returncode) == (-9, -9, -9)
        process.kill()

    stopped = started(tmp_path, "serve", "--pack", "no-such-folder")
    assert stopped.wait(20) == 2
