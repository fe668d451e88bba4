"""A running sidecar and its policy: edited, published, rolled back, spoilt; what decides is always one admitted pack."""

import getpass
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ruqsat.core.pack import digest_of
from ruqsat.stores.policy_folder import load_texts
from tests.process.checker import entries_in
from tests.process.starter import Sidecar, question, run_cli, serving

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the shipped pack, to edit."""
    folder = tmp_path / "pack"
    shutil.copytree(ROOT / "policies", folder / "policies")
    shutil.copy(ROOT / "model.conf", folder)
    return folder


def edit(pack: Path, before: str, after: str) -> None:
    """Change the consent rules, in one step as an editor does."""
    file = pack / "policies" / "consent.csv"
    text = file.read_text()
    assert before in text
    beside = file.with_suffix(".new")
    beside.write_text(text.replace(before, after, 1))
    beside.rename(file)


def withdraw_first_rule(pack: Path) -> None:
    """Take `consent-01` and the cases that promise it away: nobody reads by consent any more."""
    file = pack / "policies" / "consent.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "consent-01" not in line))
    (pack / "policies" / "consent.test.toml").unlink()
    for each in (pack / "policies").glob("*.test.toml"):
        if "consent-01" in each.read_text():
            each.unlink()


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.05)


def may_read(sidecar: Sidecar) -> bool:
    """Ask whether dr_aida may read Dana's laboratory results."""
    return bool(sidecar.evaluate().json()["decision"])


def status(sidecar: Sidecar) -> dict[str, object]:
    """Return what `/status` shows."""
    return dict(sidecar.call("control", "GET", "/status").json())


@pytest.mark.slow
def test_an_edit_comes_in_force_and_a_spoilt_edit_does_not(pack: Path, tmp_path: Path) -> None:
    """Without a restart; the journal tells the change before the first decision under the new set."""
    with serving(
        tmp_path / "sidecar", policy_dir=str(tmp_path / "p"), pack=str(pack), policy_poll_seconds="0.1"
    ) as sidecar:
        first = status(sidecar)["policy"]
        assert may_read(sidecar)

        edit(pack, " allow, consent,", " Allow, consent,")
        until(lambda: bool(status(sidecar)["policy_refused"]))
        assert status(sidecar)["policy"] == first
        assert may_read(sidecar)
        assert "ruqsat_policy_refused 1.0" in sidecar.call("control", "GET", "/metrics").text

        edit(pack, " Allow, consent,", " allow, consent,")
        until(lambda: not status(sidecar)["policy_refused"])
        withdraw_first_rule(pack)
        until(lambda: status(sidecar)["policy"] != first)
        assert not may_read(sidecar)
        assert sidecar.stop() == 0

    entries = entries_in(sidecar.journal)
    begun, *changes = [entry for entry in entries if entry["kind"] == "policy"]
    assert (begun["before"], begun["policy"]) == ("", first)
    assert [(change["before"], change["removed"]) for change in changes] == [(first, ["consent-01"])]
    last = [entry for entry in entries if entry["kind"] == "decision"][-1]
    assert changes[0]["policy"].startswith(last["policy"])


@pytest.mark.slow
def test_status_and_journal_show_the_positions_of_the_switches(pack: Path, tmp_path: Path) -> None:
    """What the pack says, and after an edit what it says then; a journal begins with them."""
    words = pack / "policies" / "vocabulary.toml"
    with serving(
        tmp_path / "sidecar", policy_dir=str(tmp_path / "p"), pack=str(pack), policy_poll_seconds="0.1"
    ) as sidecar:
        shown: list[Any] = [status(sidecar)["switches"]]
        beside = words.with_suffix(".new")
        beside.write_text(words.read_text().replace("daily_limit         = 10", "daily_limit         = 3"))
        beside.rename(words)
        until(lambda: status(sidecar)["switches"] != shown[0])
        shown.append(status(sidecar)["switches"])
        assert sidecar.stop() == 0

    entries = entries_in(sidecar.journal)
    assert [entry["kind"] for entry in entries] == ["segment", "policy", "policy"]
    assert [entry["switches"] for entry in entries[1:]] == shown
    assert [entry.get("besides") for entry in entries[1:]] == [
        None, ["switches.btg.daily_limit", "policies/vocabulary.toml"],
    ]  # fmt: skip
    assert [each["btg"]["daily_limit"] for each in shown] == [10, 3]


@pytest.mark.slow
def test_sighup_looks_at_once(pack: Path, tmp_path: Path) -> None:
    """With watching switched off nothing happens by itself; the signal does it."""
    with serving(
        tmp_path / "sidecar", policy_dir=str(tmp_path / "p"), pack=str(pack), policy_poll_seconds="0"
    ) as sidecar:
        withdraw_first_rule(pack)
        time.sleep(1.5)
        assert may_read(sidecar)

        sidecar.send_signal(signal.SIGHUP)
        until(lambda: not may_read(sidecar))


@pytest.mark.slow
def test_publish_rollback_and_history(pack: Path, tmp_path: Path) -> None:
    """A release needs a reason and a pack that passes; a sidecar on the store follows, and back again."""
    state = str(tmp_path / "state")

    def command(*words: str, expect: int = 0) -> str:
        done = run_cli(tmp_path, "policy", *words, timeout=60, policy_dir=state)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    command("publish", str(pack), expect=2)
    command("publish", str(pack), "--why", "first", "--who", "aida")
    with serving(tmp_path / "sidecar", policy_dir=state, policy_source="store", policy_poll_seconds="0.1") as sidecar:
        assert may_read(sidecar)

        edit(pack, " allow, consent,", " Allow, consent,")
        assert "unknown-effect" in command("publish", str(pack), "--why", "spoilt", expect=1)
        edit(pack, " Allow, consent,", " allow, consent,")
        withdraw_first_rule(pack)
        assert "removed  consent-01" in command("publish", str(pack), "--why", "narrower", "--who", "erlan")
        until(lambda: not may_read(sidecar))

        command("rollback", "--why", "the ward stood still", "--who", "aida")
        until(lambda: may_read(sidecar))

    words = pack / "policies" / "vocabulary.toml"
    words.write_text(words.read_text().replace("daily_limit         = 10", "daily_limit         = 3"))
    assert "besides  switches.btg.daily_limit policies/" in command("publish", str(pack), "--why", "fewer")
    assert "besides  switches.btg.daily_limit policies/" in command("history")

    history = json.loads(command("history", "--json"))
    assert [(r["number"], r["kind"], r["who"], r["why"]) for r in history] == [
        (1, "publish", "aida", "first"),
        (2, "publish", "erlan", "narrower"),
        (3, "rollback", "aida", "the ward stood still"),
        (4, "publish", getpass.getuser(), "fewer"),
    ]
    assert history[2]["digest"] == history[0]["digest"]
    assert history[2]["changes"]["added"] == ["consent-01"]
    assert "policies/consent.test.toml" in history[2]["changes"]["besides"]
    command("rollback", "9", "--why", "no such", expect=2)


@pytest.mark.slow
def test_a_release_that_was_altered_on_disk_is_not_served(pack: Path, tmp_path: Path) -> None:
    """One changed byte in the file of a release: it can be neither served nor rolled back to."""
    state = tmp_path / "state"
    done = run_cli(tmp_path, "policy", "publish", str(pack), "--why", "first", timeout=60, policy_dir=str(state))
    assert done.returncode == 0, done.stderr
    (file,) = (state / "releases").glob("*.pack")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"allow, consent", b"allow, consenT", 1))

    back = run_cli(tmp_path, "policy", "rollback", "1", "--why", "x", timeout=60, policy_dir=str(state))
    served = run_cli(tmp_path, "serve", "--demo", policy_dir=str(state), policy_source="store")

    assert (back.returncode, served.returncode) == (2, 2)
    assert "not what was written" in back.stderr
    assert "not what was written" in served.stderr


def test_the_digest_is_the_same_everywhere(pack: Path, tmp_path: Path) -> None:
    """Answers, `/status`, `policy check` and the journal name one set by one digest."""
    digest = digest_of(load_texts(pack))
    with serving(tmp_path / "sidecar", pack=str(pack)) as sidecar:
        answer = sidecar.evaluate(question()).json()
        assert digest.startswith(answer["context"]["policy"])
        assert status(sidecar)["policy"] == digest
    assert digest in run_cli(tmp_path, "policy", "check", str(pack)).stdout
