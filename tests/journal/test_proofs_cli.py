"""Receipts, proofs of consistency, and the commands around the key, for operators and witnesses."""

import shutil
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_helpers import about_patient, on_loop
from simulated_disk import UnsyncedDisk
from tests.mutants import plant
from typer.testing import CliRunner, Result

from ruqsat.cli.journal import app
from ruqsat.core import journal_proof
from ruqsat.core.checkpoint import read_checkpoint
from ruqsat.core.journal_proof import (
    ConsistencyProof,
    Inclusion,
    LineProof,
    Receipt,
    Step,
    false_proofs,
    read_proof,
    verify_growth,
    verify_receipt,
)
from ruqsat.core.signed_note import VerifierKey, split_note
from ruqsat.errors import JournalError, SettingsError
from ruqsat.stores.journal_checkpoints import CheckpointWriter
from ruqsat.stores.journal_folder import checkpoint_path, segment_path
from ruqsat.stores.journal_key import load_signing_key, make_signing_key, read_verifier_key
from ruqsat.stores.journal_proofs import make_receipt, prove_growth
from ruqsat.stores.journal_segment import DurableJournal

NAME = "clinic.example/a"
runner = CliRunner()


def run(*words: object) -> Result:
    """Run a command of the journal."""
    return runner.invoke(app, [str(word) for word in words])


class Place:
    """A journal with its key, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key_file = folder / "journal", folder / "key.pem"
        self.key = run("key", self.key_file, "--name", NAME).output.strip()
        self.verifier = VerifierKey.read(self.key)
        self._next = 0

    def go_on(self, entries: int = 3, *, is_signed: bool = True) -> None:
        """Open the journal, append, and close it."""

        async def main() -> None:
            key = load_signing_key(self.key_file, NAME) if is_signed else None
            journal = DurableJournal.open(self.folder, key=key, disk=UnsyncedDisk())
            for _ in range(entries):
                await journal.append(*about_patient(self._next, "p-dana"))
                self._next += 1
            await journal.aclose()

        on_loop(main)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A journal of two segments."""
    made = Place(tmp_path)
    made.go_on()
    made.go_on(5)
    return made


def kept(place: Place, tmp_path: Path) -> Path:
    """Keep the newest checkpoint, as a witness would."""
    path = tmp_path / "kept"
    path.write_text(run("checkpoint", place.folder).output)
    return path


def test_receipt_ties_a_decision_to_the_signed_journal(place: Place, tmp_path: Path) -> None:
    """By the id of its answer: the entry, its place and the proof, true without the journal."""
    result = run("receipt", place.folder, "d-5")
    path = tmp_path / "receipt.json"
    path.write_text(result.output)

    said = run("verify", path, "--key", place.key)
    assert said.exit_code == 0, said.output
    assert '"id":"d-5"' in said.output
    assert '"patient":"p-dana"' in said.output
    assert f"true: line 3 of `{NAME}/00000002`, of which 6 are signed" in said.output
    assert "p-dana" not in run("receipt", place.folder, "d-5", "--without-personal").output
    assert run("verify", path).exit_code == 2


@pytest.mark.parametrize("kind", ["outcome", "not_sent", "change"])
def test_a_receipt_is_of_the_decision_and_not_of_what_follows_it(place: Place, tmp_path: Path, kind: str) -> None:
    """Though that bears the same id and stands in a later segment; alone it is better than nothing, but for a change."""
    said = {"kind": kind, "id": "d-4", "at": "2026-11-24T10:00:00Z", "listener": "json", "outcome": "done"}

    async def go_on(folder: Path) -> None:
        journal = DurableJournal.open(folder, key=load_signing_key(place.key_file, NAME), disk=UnsyncedDisk())
        await journal.append(msgspec.json.encode(said))
        await journal.aclose()

    for folder in (place.folder, tmp_path / "other"):
        on_loop(lambda folder=folder: go_on(folder))

    receipt = make_receipt(place.folder, "d-4")
    entry, _ = verify_receipt(receipt, [place.verifier])
    assert entry["kind"] == "decision"
    if kind == "change":
        with pytest.raises(JournalError, match="no entry"):
            make_receipt(tmp_path / "other", "d-4")
    else:
        assert f'"kind":"{kind}"' in make_receipt(tmp_path / "other", "d-4").line


def test_receipt_of_what_is_not_signed_or_not_there_is_refused(place: Place) -> None:
    """Nothing is handed out that proves nothing."""
    place.go_on(1, is_signed=False)

    with pytest.raises(JournalError, match="no entry `d-99`"):
        make_receipt(place.folder, "d-99")
    with pytest.raises(JournalError, match="vouches for this entry yet"):
        make_receipt(place.folder, "d-8")
    with pytest.raises(JournalError, match="no entry"):
        make_receipt(place.folder, "decision")


def altered(text: str) -> st.SearchStrategy[str]:
    """Return *text* with one character changed, taken out or put in, anywhere in its values."""
    places = st.integers(0, len(text) - 1)
    return st.one_of(
        st.builds(lambda at, c: text[:at] + c + text[at + 1 :], places, st.sampled_from("0123456789abcdefXY+/=")),
        st.builds(lambda at: text[:at] + text[at + 1 :], places),
        st.builds(lambda at, c: text[:at] + c + text[at:], places, st.sampled_from("0a ,")),
    ).filter(lambda each: each != text)


@pytest.mark.slow
def test_no_altered_receipt_is_true(place: Place) -> None:
    """Whatever is changed in a receipt: it is refused, or it says what it said."""
    receipt = make_receipt(place.folder, "d-4")
    text = run("receipt", place.folder, "d-4").output.strip()
    entry = verify_receipt(receipt, [place.verifier])

    @settings(deadline=None, max_examples=600, database=None)
    @given(altered(text))
    def alter(changed: str) -> None:
        try:
            proof = read_proof(changed.encode())
            found = verify_receipt(proof, [place.verifier]) if isinstance(proof, Receipt) else None
        except ValueError:
            return
        assert found == entry

    alter()


def test_receipt_of_another_line_is_not_true(place: Place) -> None:
    """Neither another line, nor another place, nor another checkpoint can be put into a receipt."""
    one, other = make_receipt(place.folder, "d-4"), make_receipt(place.folder, "d-1")
    replace = msgspec.structs.replace

    for wrong in (
        replace(one, line=other.line),
        replace(one, index=one.index + 1),
        replace(one, path=other.path),
        replace(one, checkpoint=other.checkpoint),
        replace(one, path=()),
    ):
        with pytest.raises(ValueError, match="does not follow"):
            verify_receipt(wrong, [place.verifier])
    with pytest.raises(ValueError, match="no known key"):
        verify_receipt(one, [make_signing_key(place.folder.parent / "other", NAME).verifier])


def test_proof_is_of_the_journal_whose_key_has_signed_it(place: Place, tmp_path: Path) -> None:
    """A receipt, a line or a growth of one journal that another's key signed is not true, though both keys are known."""
    other = make_signing_key(tmp_path / "other.pem", "clinic.example/b")
    receipt, both = make_receipt(place.folder, "d-4"), [place.verifier, other.verifier]
    resigned = other.sign(split_note(receipt.checkpoint)[0])
    line = receipt.line.encode() + b"\n"
    start = read_checkpoint(split_note(receipt.checkpoint)[0])
    proof = Inclusion((resigned,), (LineProof(1, receipt.index, receipt.path, 0),))

    with pytest.raises(ValueError, match="no known key"):
        verify_receipt(msgspec.structs.replace(receipt, checkpoint=resigned), both)
    with pytest.raises(ValueError, match="no known key"):
        verify_growth(start, ConsistencyProof((Step(resigned),)), both)
    assert false_proofs(proof, [line], both) == ["line 1: no known key has signed this"]
    assert false_proofs(msgspec.structs.replace(proof, checkpoints=(receipt.checkpoint,)), [line], both) == []
    with pytest.raises(ValueError, match=f"not that of the journal `{NAME}`"):
        verify_receipt(receipt, [other.verifier])


def test_consistency_is_proved_within_and_across_segments(place: Place, tmp_path: Path) -> None:
    """From a checkpoint that was kept to the newest: true offline, over restarts."""
    old = kept(place, tmp_path)
    for _ in range(3):
        place.go_on(4)
    path = tmp_path / "proof.json"
    path.write_text(run("consistency", place.folder, old).output)

    said = run("verify", path, "--key", place.key, "--kept", old)

    assert said.exit_code == 0, said.output
    assert (
        said.output
        == f"true: the journal only grew, from 6 lines of `{NAME}/00000002` to 5 lines of `{NAME}/00000005`\n"
    )
    assert run("verify", path, "--key", place.key).exit_code == 2
    assert run("verify", place.folder, "--key", place.key, "--kept", old).exit_code == 0


def test_consistency_within_a_segment(place: Place, tmp_path: Path) -> None:
    """An interval's checkpoint, kept while the segment went on, is the beginning of what it became."""
    lines = segment_path(place.folder, 2).read_bytes().splitlines(keepends=True)
    writer = journal_checkpoints_of(place, lines[:3])
    proof = prove_growth(place.folder, writer)

    assert verify_growth(writer, proof, [place.verifier]).size == 6


def journal_checkpoints_of(place: Place, lines: list[bytes]) -> journal_proof.Checkpoint:
    """Return the checkpoint of the beginning of segment 2."""
    writer = CheckpointWriter(place.folder, UnsyncedDisk(), load_signing_key(place.key_file, NAME))
    writer.take(2, lines)
    return writer._checkpoint()


def rewritten(place: Place, tmp_path: Path) -> tuple[Path, Place]:
    """Return a kept checkpoint, and the journal as it was put back to before it and gone on from there."""
    shutil.copytree(place.folder, tmp_path / "backup")
    place.go_on(4)
    old = kept(place, tmp_path)
    shutil.rmtree(place.folder)
    shutil.copytree(tmp_path / "backup", place.folder)
    place.go_on(6)
    place.go_on(1)
    return old, place


def test_rewritten_journal_cannot_be_proved(place: Place, tmp_path: Path) -> None:
    """A backup that was put back and gone on from is whole and signed, and no proof leads to it from what was kept."""
    old, place = rewritten(place, tmp_path)
    kept_one = read_checkpoint(split_note(old.read_text())[0])
    path = tmp_path / "proof.json"
    path.write_text(run("consistency", place.folder, old).output)

    said = run("verify", path, "--key", place.key, "--kept", old)

    assert said.exit_code == 1
    assert "error[false-proof]: this does not follow" in said.output
    assert run("verify", place.folder, "--key", place.key).exit_code == 0
    assert run("verify", place.folder, "--key", place.key, "--kept", old).exit_code == 1
    lax = plant(journal_proof, "if not is_shown", "if False")
    assert lax.verify_growth(kept_one, read_proof(path.read_bytes()), [place.verifier]).segment == 4


def test_no_altered_proof_of_consistency_leads_elsewhere(place: Place, tmp_path: Path) -> None:
    """Whatever is changed in such a proof: it is refused, or it leads where it led."""
    old = read_checkpoint(split_note(kept(place, tmp_path).read_text())[0])
    for _ in range(2):
        place.go_on(3)
    text = msgspec.json.encode(prove_growth(place.folder, old)).decode()
    proof = read_proof(text.encode())
    assert isinstance(proof, ConsistencyProof)
    newest = verify_growth(old, proof, [place.verifier])

    @settings(deadline=None, max_examples=400, database=None)
    @given(altered(text))
    def alter(changed: str) -> None:
        try:
            other = read_proof(changed.encode())
            found = verify_growth(old, other, [place.verifier]) if isinstance(other, ConsistencyProof) else None
        except ValueError:
            return
        assert found == newest

    alter()


def test_proof_of_a_journal_that_was_cut_cannot_be_made(place: Place, tmp_path: Path) -> None:
    """Where the kept lines are gone there is nothing to prove with."""
    old = read_checkpoint(split_note(kept(place, tmp_path).read_text())[0])
    segment_path(place.folder, 2).unlink()

    with pytest.raises(JournalError, match="segment 2 is missing"):
        prove_growth(place.folder, old)


def test_segment_that_no_start_signs_is_signed_by_command(place: Place) -> None:
    """By whoever holds the key: one line says what is signed; where it cannot be, nothing is."""
    checkpoint_path(place.folder, 1).unlink()
    place.go_on(1)
    assert run("verify", place.folder, "--key", place.key).exit_code == 1
    signing = ("--key-file", place.key_file, "--name", NAME)

    said = run("sign", place.folder, 1, *signing)

    assert said.output == f"signed: 4 lines of `{NAME}/00000001`\n"
    assert run("verify", place.folder, "--key", place.key).exit_code == 0
    refused = run("sign", place.folder, 3, *signing).exception
    assert isinstance(refused, JournalError)
    assert "or the last" in str(refused)


# Keys


def test_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """The first call makes it, the next only prints its verifier key, which a file may hold too."""
    first = run("key", tmp_path / "key.pem", "--name", NAME)
    again = run("key", tmp_path / "key.pem", "--name", NAME)
    (tmp_path / "published").write_text(first.output)

    assert first.output == again.output
    assert first.output.startswith(NAME + "+")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert str(read_verifier_key(str(tmp_path / "published"))) == first.output.strip()
    with pytest.raises(SettingsError, match="cannot be written"):
        make_signing_key(tmp_path / "key.pem", NAME)


def test_key_of_workers_is_one_key_under_a_name_for_each(tmp_path: Path) -> None:
    """A line for each worker, under the name that it signs by; one worker alone signs under the plain name."""
    told = run("key", tmp_path / "key.pem", "--name", NAME, "--workers", 3).output.split()

    assert [VerifierKey.read(each).name for each in told] == [f"{NAME}/worker-{number}" for number in range(3)]
    assert run("key", tmp_path / "key.pem", "--name", NAME, "--workers", 1).output.startswith(NAME + "+")


def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """A key of another kind, a text, a name with a blank: one sentence, and nothing of what was found."""
    curve = generate_private_key(SECP256R1())
    (tmp_path / "curve").write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "text").write_text("secret words")
    make_signing_key(tmp_path / "key", NAME)

    for file, name, said in (
        ("curve", NAME, "no Ed25519 private key"), ("text", NAME, "no Ed25519 private key"),
        ("none", NAME, "cannot be read"), ("key", "two words", "name"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=said) as refused:
            load_signing_key(tmp_path / file, name)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [["--key", "nonsense"], ["--segments", "x"], ["--segments", "0"], ["--segments", "3-x"], ["--kept", "/nowhere"]],
)
def test_option_that_cannot_be_used_leaves_with_2(place: Place, words: list[str]) -> None:
    """A mistake of the caller never looks like an altered journal."""
    result = run("verify", place.folder, *words)

    assert result.exit_code == 2
    assert result.output.startswith("error[un")


def test_verify_says_what_is_signed_and_what_that_does_not_cover(place: Place, tmp_path: Path) -> None:
    """With the key, with a kept checkpoint, and of a range."""
    old = kept(place, tmp_path)

    assert run("verify", place.folder, "--key", place.key).output.splitlines() == [
        "2 segments, 8 entries verified",
        "2 segments signed to the end",
        "intact: every line is as it was written and follows the one before it",
        "(a journal put back as a whole shows only against a checkpoint kept elsewhere)",
    ]
    assert run("verify", place.folder, "--kept", old).output.splitlines()[-1] == (
        "and holds whatever 1 kept checkpoint vouched for"
    )
    assert run("verify", place.folder, "--segments", "2").output.startswith("1 segment, 5 entries verified")
    assert run("verify", place.folder, "--segments", "2-").output.startswith("1 segment, 5 entries verified")
    assert run("verify", place.folder, "--segments", "1-2").output.startswith("2 segments, 8 entries verified")


def test_checkpoint_is_printed_for_a_witness(place: Place) -> None:
    """The newest, or that of one segment, exactly as it was signed."""
    assert run("checkpoint", place.folder).output == checkpoint_path(place.folder, 2).read_text()
    assert run("checkpoint", place.folder, "--segment", 1).output == checkpoint_path(place.folder, 1).read_text()
    assert isinstance(run("checkpoint", place.folder, "--segment", 9).exception, JournalError)


def test_erase_command_erases(place: Place) -> None:
    """One line says how much; the journal is intact and the patient is gone."""
    result = run(
        "erase", place.folder, "--patient", "p-dana", "--act", "act 12", "--key-file", place.key_file, "--name", NAME,
        "--files-only",
    )  # fmt: skip

    assert result.output == "8 personal parts erased in 8 lines\n"
    assert b"p-dana" not in segment_path(place.folder, 1).read_bytes()
    said = run("verify", place.folder, "--key", place.key).output
    assert "8 personal parts erased, by acts that stand in the journal" in said
