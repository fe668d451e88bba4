"""A real sidecar with a key: its journal is signed, its answers have receipts, and a patient can be erased from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.process.starter import run_cli, serving

NAME = "clinic.example/sidecar-1"
PERSONAL = (b"p-dana", b"dr_aida")


LINES = 5
"""The segment's header, the policy, what was known of both, and the decision."""


@pytest.mark.slow
def test_answer_has_a_receipt_and_a_patient_can_be_erased(tmp_path: Path) -> None:
    """From the key to the kept checkpoint: an answer is tied to its entry by its id, Dana is erased, and it all verifies."""
    journal, key_file = str(tmp_path / "journal"), tmp_path / "journal.pem"
    key = run_cli(tmp_path, "journal", "key", str(key_file), "--name", NAME).stdout.strip()
    signing = {"journal_key_file": str(key_file), "journal_name": NAME}

    with serving(tmp_path, **signing) as sidecar:
        answer = sidecar.evaluate().json()
        status: dict[str, Any] = {}
        while not status or status["duties"]["journal"]["lines"] < LINES:
            status = sidecar.call("control", "GET", "/status").json()
        assert sidecar.stop() == 0
    assert status["journal"]["reserve"] == {"ready": True, "entries": 0, "left": 1 << 20}
    kept = tmp_path / "kept"
    kept.write_text(run_cli(tmp_path, "journal", "checkpoint", journal).stdout)
    receipt = tmp_path / "receipt"
    receipt.write_text(run_cli(tmp_path, "journal", "receipt", journal, answer["context"]["id"]).stdout)

    told = run_cli(tmp_path, "journal", "verify", str(receipt), "--key", key)
    assert told.returncode == 0, told.stderr
    entry = json.loads(told.stdout.splitlines()[0])
    assert (entry["id"], entry["allowed"], entry["patient"]) == (answer["context"]["id"], answer["decision"], "p-dana")

    erased = run_cli(
        tmp_path, "journal", "erase", journal, "--patient", "p-dana", "--act", "act 12", "--key-file", str(key_file),
        "--name", NAME,
    )  # fmt: skip
    told = "3 personal parts erased in 3 lines\nin the database: 3 lines, 1 notice\n"
    assert erased.stdout == told  # of the decision, and of what was known of both
    texts = b"".join(path.read_bytes() for path in (tmp_path / "journal").glob("*.jsonl"))
    assert not any(name in texts for name in PERSONAL)
    with serving(tmp_path, **signing) as sidecar:
        assert sidecar.evaluate().json()["decision"] is True
        assert sidecar.stop() == 0
    verified = run_cli(tmp_path, "journal", "verify", journal, "--key", key, "--kept", str(kept), "--stopped")
    assert verified.returncode == 0, verified.stdout
    assert "and holds whatever 1 kept checkpoint vouched for" in verified.stdout
    assert run_cli(tmp_path, "journal", "verify", str(receipt), "--key", key).returncode == 0


def test_sidecar_whose_key_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    """A key that is none stops the start with the setting's name; nothing of it is shown."""
    (tmp_path / "key").write_text("secret words")

    stopped = run_cli(tmp_path, "serve", journal_key_file=str(tmp_path / "key"), journal_name=NAME,
                      token_issuer="i", token_audience="a", token_key="x" * 32, token_algorithm="HS256")  # fmt: skip

    assert stopped.returncode == 2
    assert "RUQSAT_JOURNAL_KEY_FILE" in stopped.stderr
    assert "secret" not in stopped.stderr + stopped.stdout
