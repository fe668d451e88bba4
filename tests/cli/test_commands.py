"""The command line: 0 good, 1 findings, 2 usage; machines read `--json`."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from ruqsat import __version__
from ruqsat.stores.journal_segment import DurableJournal
from tests.conftest import ROOT
from tests.process.starter import environment, question, run_cli


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the pack that a test may spoil."""
    folder = tmp_path / "pack"
    shutil.copytree(ROOT / "policies", folder / "policies")
    shutil.copy(ROOT / "model.conf", folder)
    return folder


def spoil(pack: Path) -> None:
    """Misspell an effect."""
    file = pack / "policies" / "hard-deny.csv"
    file.write_text(file.read_text().replace(", deny,", ", dney,", 1))


def test_a_sound_pack_passes_check_and_test(pack: Path, tmp_path: Path) -> None:
    """Exit code 0, the digest, and every case as promised."""
    check, test = run_cli(tmp_path, "policy", "check", str(pack)), run_cli(tmp_path, "policy", "test", str(pack))

    assert (check.returncode, test.returncode) == (0, 0), check.stdout + test.stdout
    assert "no errors" in check.stdout
    assert re.search(r"(\d{3}) of \1 cases are as promised", test.stdout)


PRINTING = [
    ("--version",), ("policy", "check"), ("policy", "check", "--json"), ("journal", "verify", "journal"),
    ("journal", "verify", "journal", "--json"),
]  # fmt: skip


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_printed_is_no_result(tmp_path: Path, words: tuple[str, ...], unbuffered: str) -> None:
    """On a full disk one line says so; to a reader that has gone nothing is said; neither is 0 or 1, and without output 0 is."""
    asyncio.run(DurableJournal.open(tmp_path / "journal").aclose())
    run = partial(
        subprocess.run, [sys.executable, "-m", "ruqsat", *words], check=False, cwd=tmp_path, text=True,
        env=environment(tmp_path) | {"PYTHONUNBUFFERED": unbuffered}, stderr=subprocess.PIPE,
    )  # fmt: skip
    reader, gone = os.pipe()
    os.close(reader)

    with open("/dev/full", "w") as full:
        on_full_disk = run(stdout=full)
    to_nobody = run(stdout=gone)
    os.close(gone)

    said = "error[unwritten-output]: what this command prints cannot be written: No space left on device\n"
    assert (on_full_disk.returncode, on_full_disk.stderr) == (2, said)
    assert (to_nobody.returncode, to_nobody.stderr) == (2, "")
    assert run(stdout=subprocess.DEVNULL).returncode == 0


def test_a_spoilt_pack_is_findings_for_check_and_a_stop_for_the_others(pack: Path, tmp_path: Path) -> None:
    """`check` lists and exits 1; `test`, `explain` and `serve` refuse to work with it and exit 2."""
    spoil(pack)
    request = tmp_path / "request.json"
    request.write_text(json.dumps(question()))

    assert run_cli(tmp_path, "policy", "check", str(pack)).returncode == 1
    assert run_cli(tmp_path, "policy", "test", str(pack)).returncode == 2
    assert run_cli(tmp_path, "explain", str(request), "--pack", str(pack)).returncode == 2
    served = run_cli(tmp_path, "serve", "--demo", "--pack", str(pack), policy_dir=str(tmp_path / "policy"))
    assert served.returncode == 2
    assert "error[unknown-effect]" in served.stderr


def test_check_speaks_json(pack: Path, tmp_path: Path) -> None:
    """A machine gets the findings as data."""
    spoil(pack)

    said = json.loads(run_cli(tmp_path, "policy", "check", str(pack), "--json").stdout)

    assert said["digest"] is None
    assert said["findings"][0]["code"] == "unknown-effect"
    assert said["findings"][0]["span"]["file"] == "policies/hard-deny.csv"


def test_a_case_that_is_not_as_promised_fails(pack: Path, tmp_path: Path) -> None:
    """An answer for the wrong reason is a failure, shown with the rule that gave it."""
    file = pack / "policies" / "consent.test.toml"
    file.write_text(file.read_text().replace('because = "consent-01"', 'because = "consent-02"', 1))

    done = run_cli(tmp_path, "policy", "test", str(pack))

    assert done.returncode == 1
    assert "expected it by `consent-02`, got it by `consent-01`" in done.stdout


@pytest.mark.slow
def test_explain_shows_the_rules_that_were_asked(tmp_path: Path) -> None:
    """Allowed is 0, denied 1, unreadable 2; the deciding rule stands last."""
    request = tmp_path / "request.json"
    moment = ("--at", "2026-11-24T10:00:00+05:00")
    request.write_text(json.dumps(question()))
    allowed = run_cli(tmp_path, "explain", str(request), *moment)
    request.write_text(json.dumps(question(subject="admin_timur")))
    denied = run_cli(tmp_path, "explain", str(request), *moment)
    russian = run_cli(tmp_path, "explain", str(request), *moment, "--lang", "ru")
    said = json.loads(run_cli(tmp_path, "explain", str(request), *moment, "--json").stdout)
    request.write_text("{")

    assert (allowed.returncode, denied.returncode) == (0, 1)
    assert allowed.stdout.startswith(
        "ALLOWED  allow.consent\n  meaning  the patient's consent covers it\n  by       consent-01\n"
    )
    assert "meaning  ни у одной роли нет такой цели" in russian.stdout
    assert "-> entitlement-01 (deny)" in denied.stdout
    assert "client   sees `not_permitted`" in denied.stdout
    assert (said["decision"], said["asked"][-1]["rule"]) == (False, "entitlement-01")
    assert run_cli(tmp_path, "explain", str(request)).returncode == 2
    assert run_cli(tmp_path, "explain", str(tmp_path / "none.json")).returncode == 2


def test_what_is_missing_is_usage(tmp_path: Path) -> None:
    """A missing folder or command is exit code 2 with one line that says so."""
    for words in (
        ("policy", "check", str(tmp_path / "none")),
        ("journal", "verify", str(tmp_path / "none")),
        ("nonsense",),
    ):
        assert run_cli(tmp_path, *words).returncode == 2, words


def test_version_and_help(tmp_path: Path) -> None:
    """The version is printed, and help lists every command."""
    assert run_cli(tmp_path, "--version").stdout.strip() == f"ruqsat {__version__}"
    text = run_cli(tmp_path, "--help").stdout
    for command in ("serve", "explain", "policy", "journal", "consent"):
        assert command in text


@pytest.mark.parametrize("command", [
    ("notices", "dead"), ("notices", "list"), ("policy", "releases"), ("policy", "status"), ("journal", "prune"),
])  # fmt: skip
def test_a_database_that_is_not_there_is_told_and_not_made(command: tuple[str, str], tmp_path: Path) -> None:
    """An operator in another folder does not read `0 notices` of a database that was never served from."""
    told = run_cli(tmp_path, *command, auth_listen="off", database_url=f"sqlite:///{tmp_path / 'other.db'}")

    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "there is no database" in told.stderr
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("other")]


def test_a_body_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As for every file that a command is given: no traceback."""
    told = run_cli(tmp_path, "policy", "read", "POST", "/fhir/Observation", "--body", "nowhere.json")

    assert (told.returncode, "nowhere.json" in told.stderr, "Traceback" in told.stderr) == (2, True, False)
