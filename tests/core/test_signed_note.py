"""Signed notes and checkpoints: the reference's note, and everything that is none."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ruqsat.core.checkpoint import Checkpoint, origin_of, read_checkpoint
from ruqsat.core.signed_note import SigningKey, VerifierKey, open_note, split_note

# The key and the note of the reference implementation, golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
OTHER = SigningKey("other.example", Ed25519PrivateKey.from_private_bytes(bytes(32)))


def test_reference_note_is_read_and_written() -> None:
    """The note of the reference verifies, and its key makes it again, byte for byte."""
    key = VerifierKey.read(PETER)

    assert str(key) == PETER
    assert open_note(NOTE, [key]) == TEXT
    assert SigningKey("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETERS_SEED)).sign(TEXT) == NOTE


def test_signatures_of_strangers_are_passed_by_and_do_not_count() -> None:
    """A witness may sign beside the log; alone it vouches for nothing."""
    beside = NOTE + OTHER.sign(TEXT).rpartition("\n\n")[2]

    assert open_note(beside, [VerifierKey.read(PETER)]) == TEXT
    assert open_note(beside, [VerifierKey.read(PETER), OTHER.verifier]) == TEXT
    with pytest.raises(ValueError, match="no known key"):
        open_note(NOTE, [OTHER.verifier])
    with pytest.raises(ValueError, match="no known key"):
        open_note(NOTE, [])


@given(st.data())
def test_any_changed_character_is_noticed(data: st.DataObject) -> None:
    """No character of a note can become another one."""
    place = data.draw(st.integers(0, len(NOTE) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda each: each != NOTE[place]))

    with pytest.raises(ValueError):
        open_note(NOTE[:place] + other + NOTE[place + 1 :], [VerifierKey.read(PETER)])


@pytest.mark.parametrize(
    "note",
    ["", "\n", TEXT, NOTE[:-1], NOTE + "\n", NOTE + "x\n", TEXT + "\n", NOTE.replace("—", "-"), NOTE.replace("\n\n", "\n"),
     NOTE.replace(" x08", " *x08"), NOTE.replace("nAM=", "nAN="), NOTE.replace("problem", "prob\x07lem"), TEXT + "\n— PeterNeumann AAAA\n",
     TEXT * 1000 + NOTE],
)  # fmt: skip
def test_what_is_no_note_is_refused(note: str) -> None:
    """Nothing is read out of what is not a text, an empty line and signatures."""
    with pytest.raises(ValueError, match="expected a sign"):
        split_note(note)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a+b", PETER[:-1], PETER[1:], PETER.replace("c74f20a3", "c74f20a4"), PETER.replace("+AR", "+AZ"), "x y" + PETER,
     "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
     "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"],
)  # fmt: skip
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    """A key that was cut, altered or is of another kind is not believed."""
    with pytest.raises(ValueError, match=r"verifier key|name"):
        VerifierKey.read(text)


@pytest.mark.parametrize("text", ["", "no end", "bell\x07\n"])
def test_what_is_no_text_is_not_signed(text: str) -> None:
    """Only lines of text are signed."""
    with pytest.raises(ValueError, match="lines of text"):
        OTHER.sign(text)


def test_checkpoint_is_three_lines() -> None:
    """Origin, size and root are read back as they were written; further lines are not ours."""
    point = Checkpoint(origin_of("clinic.example/a", 12), 4711, bytes(range(32)))

    assert read_checkpoint(point.text()) == point
    assert read_checkpoint(point.text() + "extension\n") == point
    assert (point.name, point.segment) == ("clinic.example/a", 12)


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    ["", "a/00000001\n1\n", f"a/00000001\n1\n{ROOT}", f"a\n1\n{ROOT}\n", f"a/1\n1\n{ROOT}\n", f"a/00000001\n01\n{ROOT}\n",
     f"a/00000001\n-1\n{ROOT}\n", f"a/00000001\n1\n{ROOT[:-4]}\n", f"a/00000001\n1\n{ROOT}\n\n", f"a b/00000001\n1\n{ROOT}\n",
     f"a/00000001\n1\n!{ROOT}\n"],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """A size that is none, a root that is none, an origin without a segment: nothing is guessed."""
    with pytest.raises(ValueError, match="checkpoint"):
        read_checkpoint(text)
