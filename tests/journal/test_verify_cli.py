"""``ruqsat journal verify``: what it prints and how it leaves."""

import json
from pathlib import Path

import pytest
from journal_helpers import decision, on_loop
from typer.testing import CliRunner

from ruqsat.cli.journal import app
from ruqsat.stores.journal_folder import segment_path
from ruqsat.stores.journal_segment import DurableJournal

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of one segment with two entries."""
    path = tmp_path / "journal"

    async def main() -> None:
        journal = DurableJournal.open(path)
        await journal.append(decision(1))
        await journal.append(decision(2))
        await journal.aclose()

    on_loop(main)
    return path


def spoil(folder: Path) -> int:
    """Turn decision 1 into 7 and return the offset of its line."""
    path = segment_path(folder, 1)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"id":1', b'"id":7'))
    return whole.index(b"\n") + 1


def test_intact_journal_leaves_with_0(folder: Path) -> None:
    """An intact journal is said to be intact, with what that does not cover."""
    result = runner.invoke(app, ["verify", str(folder)])

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "1 segment, 2 entries verified",
        "intact: every line is as it was written and follows the one before it",
        "(lines dropped from the very end show only against a signed checkpoint)",
    ]


def test_altered_journal_leaves_with_1_and_names_the_place(folder: Path) -> None:
    """Each finding is one line with file, line, code and byte, and the word intact stands nowhere alone."""
    offset = spoil(folder)

    result = runner.invoke(app, ["verify", str(folder)])

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{segment_path(folder, 1)}:2: error[altered]: the line and its hash disagree; "
        f"one of them was changed after it was written (byte {offset})",
        "1 segment, 1 entry verified",
        "not intact: 1 finding",
    ]


def test_json_says_the_same_in_one_object(folder: Path) -> None:
    """A machine reads the same facts as a person, and the same exit code."""
    intact = runner.invoke(app, ["verify", str(folder), "--json"])
    offset = spoil(folder)
    altered = runner.invoke(app, ["verify", "--json", str(folder)])

    assert (intact.exit_code, altered.exit_code) == (0, 1)
    assert json.loads(intact.output) == {
        "folder": str(folder),
        "intact": True,
        "segments": 1,
        "entries": 2,
        "findings": [],
        "signed": 0,
        "erased": 0,
    }
    assert json.loads(altered.output)["findings"] == [
        {
            "file": "segment-00000001.jsonl",
            "line": 2,
            "offset": offset,
            "code": "altered",
            "sentence": "the line and its hash disagree; one of them was changed after it was written",
        }
    ]


def test_missing_folder_leaves_with_2(tmp_path: Path) -> None:
    """A mistyped folder is a mistake of the caller, and never looks like an intact journal."""
    plain = runner.invoke(app, ["verify", str(tmp_path / "nothing")])
    as_json = runner.invoke(app, ["verify", str(tmp_path / "nothing"), "--json"])

    assert (plain.exit_code, as_json.exit_code) == (2, 2)
    assert "error[missing-folder]: there is no such folder" in plain.output
    assert json.loads(as_json.output)["intact"] is False


def test_empty_folder_leaves_with_1(tmp_path: Path) -> None:
    """A folder with no journal in it is not intact."""
    result = runner.invoke(app, ["verify", str(tmp_path)])

    assert result.exit_code == 1
    assert "error[empty-journal]" in result.output


def test_verify_cannot_be_called_without_a_folder() -> None:
    """Nothing is verified by default."""
    assert runner.invoke(app, ["verify"]).exit_code == 2


def test_names_cannot_write_to_the_terminal(folder: Path) -> None:
    """A file name with control characters, or markup, is printed as plain escaped text."""
    (folder / "\x1b[31m[bold]red").touch()

    plain = runner.invoke(app, ["verify", str(folder)])
    as_json = runner.invoke(app, ["verify", str(folder), "--json"])

    assert r"\x1b[31m[bold]red: error[unknown-file]" in plain.output
    assert "\x1b" not in plain.output + as_json.output


def test_journal_in_use_can_be_verified(folder: Path) -> None:
    """Verification takes no lock and changes nothing."""

    async def main() -> None:
        journal = DurableJournal.open(folder)
        await journal.append(decision(3))
        before = {path.name: path.read_bytes() for path in folder.iterdir()}  # noqa: ASYNC240
        assert runner.invoke(app, ["verify", str(folder)]).exit_code == 0
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before  # noqa: ASYNC240
        await journal.aclose()

    on_loop(main)
