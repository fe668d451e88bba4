"""The seal on personal fields: opens for the same record of the same version under the same key, and for nothing else."""

import base64

import pytest

from ruqsat.errors import SettingsError
from ruqsat.service.record_seal import RecordSeal, RecordUnreadableError, read_record_key

KEY = bytes(range(32))
TEXT = b'{"surname": "CANARY"}'


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    """The text comes back; the sealed bytes hold none of it, and twice the same text looks different."""
    seal = RecordSeal(KEY)
    one, other = (seal.close(TEXT, "p1", "c1", 1) for _ in range(2))

    assert RecordSeal(KEY).open(one, "p1", "c1", 1) == TEXT
    assert one != other and b"CANARY" not in one


def test_any_flipped_bit_is_noticed() -> None:
    """Each bit of the sealed bytes, turned, keeps them shut; so does anything cut off or added."""
    seal = RecordSeal(KEY)
    box = seal.close(TEXT, "p1", "c1", 1)
    spoilt = [box[: at // 8] + bytes([box[at // 8] ^ (1 << at % 8)]) + box[at // 8 + 1 :] for at in range(len(box) * 8)]

    for bad in (*spoilt, *(box[:length] for length in range(len(box))), box + b"\0"):
        with pytest.raises(RecordUnreadableError):
            seal.open(bad, "p1", "c1", 1)


@pytest.mark.parametrize("place", [("p2", "c1", 1), ("p1", "c2", 1), ("p1", "c1", 2), ("p1c", "1", 1)])
def test_what_is_moved_does_not_open(place: tuple[str, str, int]) -> None:
    """To another patient, another record or another version of it."""
    seal = RecordSeal(KEY)

    with pytest.raises(RecordUnreadableError):
        seal.open(seal.close(TEXT, "p1", "c1", 1), *place)


def test_another_key_does_not_open_and_tags_otherwise() -> None:
    """Tags are the same for the same under one key, and differ by kind, by parts and by key."""
    one, other = RecordSeal(KEY), RecordSeal(bytes(32))

    with pytest.raises(RecordUnreadableError):
        other.open(one.close(TEXT, "p1", "c1", 1), "p1", "c1", 1)
    tags = [one.tag("a", b"x", b"y"), one.tag("b", b"x", b"y"), one.tag("a", b"xy"), one.tag("a", b"xy", b""),
            other.tag("a", b"x", b"y")]  # fmt: skip
    assert len(set(tags)) == len(tags)
    assert one.tag("a", b"x", b"y") == RecordSeal(KEY).tag("a", b"x", b"y")


@pytest.mark.parametrize(
    "text", [b"", b"short", base64.b64encode(bytes(31)), base64.b64encode(bytes(33)), b"\xff" * 44]
)
def test_a_key_of_another_size_is_refused_without_being_shown(text: bytes) -> None:
    """Thirty-two bytes in base64, a line break at its end forgiven."""
    with pytest.raises(SettingsError, match="32 random bytes in base64"):
        read_record_key(text)
    assert read_record_key(base64.b64encode(KEY) + b"\n") == KEY
