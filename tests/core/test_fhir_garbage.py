"""Garbage and mutations: the mapping always answers, within its closed lists, and quickly."""

import json
import os
import random
from collections import Counter
from typing import Any, get_args

import msgspec
import pytest

from ruqsat.core.fhir.bodies import MAX_BODY_BYTES
from ruqsat.core.fhir.meaning import Answer, Meaning
from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.routes import mapped_of
from tests.conformance.http_vectors import VECTORS, request_of
from tests.fhir_ground import FhirRequest, read_request

REQUESTS = 20_000 * int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "", "get"]
PIECES = [
    b"/", b"//", b"fhir", b"Patient", b"Observation", b"patient", b"p1", b"p2", b"$everything", b"$export", b"_history", b"_search",
    b"?", b"&", b"=", b",", b":", b".", b"..", b"%2e", b"%2f", b"%00", b"%", b"#", b"*", b"|", b";", b"\\", b"\xd0", b"_id", b"_include",
    b"_revinclude", b"_type", b"_summary", b"count", b"category", b"laboratory", b"Group", b"Basic", b"_getpages", b"identifier", b"1" * 300,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 1e308, "", "Patient/p1", "Patient/p2", "Patient?x=1", "urn:uuid:1", "#c", [], {}, "Observation", "\0", "\ud800",
    {"reference": "Patient/p1"}, {"reference": 1}, {"coding": [{"code": "laboratory"}]}, "Bundle", "transaction", [[[]]],
]  # fmt: skip
KEYS = ["resourceType", "subject", "patient", "reference", "category", "type", "entry", "request", "url", "method", "resource", "fullUrl",
        "id", "Subject", "meta", "op", "path", "value", "ifNoneExist", "coding", "code", "identifier"]  # fmt: skip


HEADERS = [(), (("content-type", "application/x-www-form-urlencoded"),), (("prefer", "respond-async"),),
           (("If-None-Exist", "patient=p1"),), (("X_HTTP_Method_Override", "PUT"),)]  # fmt: skip


def some_target(dice: random.Random) -> bytes:
    """Pieces in any order, or a vector's target with bytes changed."""
    if dice.random() < 0.3:
        return (b"/fhir/" if dice.random() < 0.8 else b"") + b"".join(dice.choices(PIECES, k=dice.randrange(12)))
    raw = bytearray(dice.choice(list(VECTORS.values()))["url"].encode())
    for _ in range(dice.randrange(3)):
        place = dice.randrange(len(raw) + 1)
        raw[place : place + dice.randrange(3)] = dice.choice([*PIECES, bytes([dice.randrange(256)])])
    return bytes(raw)


def some_value(dice: random.Random, depth: int = 0) -> Any:
    """A JSON value of FHIR's words."""
    if depth > 3 or dice.random() < 0.5:
        return dice.choice(VALUES)
    if dice.random() < 0.3:
        return [some_value(dice, depth + 1) for _ in range(dice.randrange(3))]
    return {dice.choice(KEYS): some_value(dice, depth + 1) for _ in range(dice.randrange(6))}


def some_body(dice: random.Random) -> bytes | None:
    """No body, bytes, words of FHIR, or a vector's body with something changed."""
    kind = dice.randrange(5)
    if kind == 0:
        return None
    if kind == 1:
        return dice.randbytes(dice.randrange(40))
    if kind == 2:
        return json.dumps(some_value(dice)).encode("utf-8", "surrogatepass")
    body = request_of(dice.choice(list(VECTORS.values()))).body or b"{}"
    if kind == 3:
        place = dice.randrange(len(body))
        return (
            body[:place]
            + dice.choice([b"", b'"', b"}", b"\\ud800", b"\xff", b",", b"[" * 50])
            + body[place + dice.randrange(4) :]
        )
    return body.replace(
        b"Patient/p1", dice.choice([b"Patient/p2", b"p1", b"", b"Patient?a=b", b"urn:uuid:1", b"Group/g1"])
    )


def some_request(dice: random.Random) -> FhirRequest:
    """A request of any kind: one of the vectors with one thing changed, or everything at random."""
    if dice.random() < 0.6:
        whole = request_of(dice.choice(list(VECTORS.values())))
        change = dice.choice(["method", "target", "headers", "body"])
        return msgspec.structs.replace(whole, **{change: some_part(dice, change, whole)})
    return FhirRequest(*(some_part(dice, part, None) for part in ("method", "target", "headers", "body")))


def some_part(dice: random.Random, part: str, whole: FhirRequest | None) -> Any:
    """One part of a request; a target is mostly that of *whole* with a piece put in, taken out or doubled."""
    if part == "method":
        return dice.choice(METHODS)
    if part == "headers":
        return dice.choice(HEADERS)
    if part == "body":
        return some_body(dice)
    if whole is None or dice.random() < 0.3:
        return some_target(dice)
    place = dice.randrange(len(whole.target) + 1)
    return whole.target[:place] + dice.choice(PIECES) + whole.target[place + dice.randrange(2) :]


def sound(meaning: Meaning, words: FhirWords) -> bool:
    """Tell whether a meaning keeps what every meaning promises."""
    denied = meaning.answer == "deny"
    return (
        meaning.answer in get_args(Answer)
        and (bool(meaning.reason) or meaning.answer in ("decide", "public"))
        and meaning.reason.replace("_", "").isalpha() is bool(meaning.reason)
        and set(meaning.classes) <= set(words.class_order)
        and not (denied and (meaning.filtered or meaning.strip or meaning.put))
        and (meaning.action is not None or denied)
        and (denied or bool(meaning.classes))
        # Data of a patient are decided only where somebody is known whose they are.
        and not (meaning.answer == "decide" and not meaning.patients and not words.is_impersonal(meaning.classes))
        and not (meaning.answer == "public" and set(meaning.classes) != {"public"})
        and all(sound(entry, words) for entry in meaning.entries)
    )


@pytest.mark.parametrize("seed", range(4))
def test_garbage_is_answered(seed: int, fhir_words: FhirWords) -> None:
    """Twenty thousand random and mutated requests: no exception, no half-made answer, no answer without a patient."""
    print("seed", seed)
    dice, answers = random.Random(seed), Counter[str]()
    for _ in range(REQUESTS // 4):
        request = some_request(dice)
        meaning = read_request(request, fhir_words)
        assert sound(meaning, fhir_words), request
        answers[meaning.answer] += 1
        mapped = mapped_of(meaning)
        assert mapped is None or meaning.answer in ("decide", "public")
    assert all(answers[answer] > 20 for answer in get_args(Answer)), answers


@pytest.mark.parametrize(
    "body",
    [b"[" * MAX_BODY_BYTES, b'{"a":' * (MAX_BODY_BYTES // 5), b'"' + b"a" * (MAX_BODY_BYTES - 2) + b'"', b"9" * MAX_BODY_BYTES,
     b"[" + b"1," * 30_000 + b"1]", b"{" + b",".join(b'"%d":1' % n for n in range(6_000)) + b"}", b"[" * 60 + b"]" * 60],
    ids=["open lists", "open objects", "a long text", "a long number", "a long list", "many keys", "too deep"],
)  # fmt: skip
def test_a_hostile_body_is_refused_and_costs_no_more_than_its_length(body: bytes, fhir_words: FhirWords) -> None:
    """Depth, size and numbers without end are refused before anything is made of them."""
    for target in (b"/fhir", b"/fhir/Observation"):
        meaning = read_request(FhirRequest("POST", target, (), body), fhir_words)

        assert meaning.answer == "deny"


def test_the_check_of_answers_can_fail(fhir_words: FhirWords) -> None:
    """A decision on nobody's data, a refusal that rewrites, a word that is none: each is found."""
    for odd in (
        Meaning("read", "read", "decide", ("labs",)), Meaning("read", "read", "deny", reason="x", strip=("_total",)),
        Meaning("read", "read", "decide", ("labz",), patients=("p1",)), Meaning("read", None, "decide", ("public",)),
        Meaning("read", "read", "public", ("directory",)), Meaning("read", "read", "deny"),
    ):  # fmt: skip
        assert not sound(odd, fhir_words)
