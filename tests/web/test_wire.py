"""A question is read once while it is asked again soon; what cannot be read is refused each time."""

import json
from typing import Any

import pytest

from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import RequestError
from ruqsat.web.batch import Batch, read_batch
from ruqsat.web.wire import SHORT_BYTES, decode_evaluation


def body(**changes: Any) -> bytes:
    """A question as a caller writes it."""
    asked = {
        "subject": {"type": "user", "id": "dr"}, "action": {"name": "read"}, "resource": {"type": "Record", "id": "o1"},
    } | changes  # fmt: skip
    return json.dumps(asked).encode()


def test_the_same_bytes_are_the_same_question() -> None:
    """And other bytes are another one."""
    first = decode_evaluation(body())

    assert decode_evaluation(bytes(bytearray(body()))) is first
    assert decode_evaluation(body(action={"name": "export"})).action.name == "export"


@pytest.mark.parametrize("bad", [b"{}", b"[", b'{"a":1,"a":2}', body(subject={"type": "user", "id": "a\u0007"})])
def test_what_was_refused_is_refused_again(bad: bytes) -> None:
    """A question that was refused is refused when it comes again: nothing of it is kept."""
    for _ in range(3):
        with pytest.raises(RequestError):
            decode_evaluation(bad)


def test_the_same_bytes_are_another_question_to_a_pack_that_reads_other_words() -> None:
    """What a pack declares as stated is read under that pack alone."""

    class Wider(EvaluationRequest, frozen=True, omit_defaults=True, kw_only=True):
        ward: str | None = None

    plain, wider = decode_evaluation(body(ward="7")), decode_evaluation(body(ward="7"), Wider)

    assert type(plain) is EvaluationRequest
    assert isinstance(wider, Wider)
    assert wider.ward == "7"


@pytest.mark.parametrize(("longer", "kept"), [(0, True), (1, False)])
def test_long_questions_are_not_kept(longer: int, kept: bool) -> None:
    """What is kept has a bound in bytes."""
    short = body(resource={"type": "Record", "id": "o1", "properties": {"author": ""}})
    filled = short.replace(b'"author": ""', b'"author": "%b"' % (b"x" * (SHORT_BYTES - len(short) + longer)))
    assert len(filled) == SHORT_BYTES + longer

    assert (decode_evaluation(filled) is decode_evaluation(bytes(bytearray(filled)))) is kept


@pytest.mark.parametrize(("longer", "kept"), [(0, True), (1, False)])
def test_a_short_question_of_a_batch_is_read_once_too(longer: int, kept: bool) -> None:
    """Unless the call says a part of it for all; what cannot be read is an error in each place."""
    short = body(resource={"type": "Record", "id": "o1", "properties": {"author": ""}})
    filled = short.replace(b'"author": ""', b'"author": "%b"' % (b"x" * (SHORT_BYTES - len(short) + longer)))
    of_all = b'{"evaluations":[%b,{},%b],"context":{"purpose":"TREAT"}}' % (filled, filled)

    first, bad, second = batch_of(b'{"evaluations":[%b,{},%b]}' % (filled, filled))
    third, _, _ = batch_of(of_all)

    assert (first is second) is kept and first == second
    assert isinstance(bad, RequestError)
    assert first != third


def batch_of(raw: bytes) -> tuple[Any, ...]:
    """Read a call of several."""
    batch = read_batch(raw)
    assert isinstance(batch, Batch)
    return batch.questions


@pytest.mark.parametrize("character", ["\0", "\n", "\x7f", "\x85", "\x9b", "\u200b", "\u2028"])
@pytest.mark.parametrize("escaped", [True, False])
def test_no_id_holds_what_cannot_be_printed_however_it_is_written(character: str, escaped: bool) -> None:
    """As an escape or as it is, alone or in a batch: else one question would have two answers, and a log another line."""
    asked = json.loads(body(resource={"type": "Record", "id": f"o{character}1"}))
    alone = json.dumps(asked, ensure_ascii=escaped).encode()
    whole = json.dumps({"evaluations": [asked]}, ensure_ascii=escaped).encode()
    of_all = json.dumps(asked | {"evaluations": [{}]}, ensure_ascii=escaped).encode()

    with pytest.raises(RequestError):
        decode_evaluation(alone)
    for each in (whole, of_all):
        batch = read_batch(each)
        assert isinstance(batch, Batch) and isinstance(batch.questions[0], RequestError)


def test_an_id_of_letters_of_any_language_is_read() -> None:
    """Beyond ASCII there are more letters than what cannot be printed."""
    asked = body(subject={"type": "user", "id": "дәрігер-Айгүл"})

    assert decode_evaluation(json.dumps(json.loads(asked), ensure_ascii=False).encode()).subject.id == "дәрігер-Айгүл"
