"""Every vector of HTTP mapping is met, and so are its neighbours: what must not change an answer, does not."""

from collections import Counter
from itertools import permutations
from typing import Any

import msgspec
import pytest

from ruqsat.core.fhir.meaning import Meaning
from ruqsat.core.fhir.words import FhirWords
from tests.conformance.http_vectors import MORE, VECTORS, expected, request_of, shown
from tests.fhir_ground import FhirRequest, read_request

COUNT = 47
"""How many vectors there are: one that is lost is missed here."""


def test_no_vector_is_skipped(fhir_words: FhirWords) -> None:
    """All of the file are asked, each by its own id."""
    assert len(VECTORS) == COUNT
    assert len([key for key, vector in VECTORS.items() if read_request(request_of(vector), fhir_words)]) == COUNT


@pytest.mark.parametrize("key", [*VECTORS, *MORE])
def test_a_vector_is_met(key: str, fhir_words: FhirWords) -> None:
    """Interaction, action, patient and both filters; classes where the request is not refused."""
    vector = {**VECTORS, **MORE}[key]

    found, promised = shown(read_request(request_of(vector), fhir_words), fhir_words), expected(vector)

    if vector["prefilter"] == "deny":
        del found["classes"], promised["classes"]
    assert found == promised


RANK = {"deny": 0, "defer": 1, "decide": 2, "public": 2}
READS = ["H04", "H05", "H08", "H11", "H13", "H14", "H16", "H19", "H22", "H23", "H32", "H35", "H37", "H43", "H59"]
SEARCHES = ["H11", "H13", "H14", "H16", "H19", "H22", "H23", "H32", "H35"]
REFUSED_PARAMETERS = [
    "_has:Condition:patient:code=B20", "_filter=x", "_query=x", "_text=x", "_content=x", "_contained=true", "_list=l1",
    "_summary=count", "_count=0", "_count=000", "_revinclude=*", "_include=*", "_include=Observation:*", "_method=DELETE",
    "subject.name=x", "patient:Patient.name=x", "patient:not=p9", "patient:missing=false", "_unknown=1", "_getpages=t",
    "_security=HIV", "_graph=g", "PATIENT=p9", "_id:not=x", "_include:odd=Condition:encounter", "_cascade=delete", "_type=",
]  # fmt: skip


def asked(vector: dict[str, Any], words: FhirWords, **changes: Any) -> Meaning:
    """Return what a vector means, changed."""
    return read_request(msgspec.structs.replace(request_of(vector), **changes), words)


def with_query(vector: dict[str, Any], *more: str) -> bytes:
    """Return the target of a vector with more parameters."""
    mark = "&" if "?" in vector["url"] else "?"
    return (vector["url"] + mark + "&".join(more)).encode()


@pytest.mark.parametrize("parameter", REFUSED_PARAMETERS)
@pytest.mark.parametrize("key", VECTORS)
def test_a_refused_parameter_refuses_wherever_it_is_added(key: str, parameter: str, fhir_words: FhirWords) -> None:
    """Added to any request at all, it denies it: a refusal never becomes a decision."""
    vector = VECTORS[key]

    assert asked(vector, fhir_words, target=with_query(vector, parameter)).answer == "deny"


@pytest.mark.parametrize("key", VECTORS)
def test_the_order_of_parameters_is_irrelevant(key: str, fhir_words: FhirWords) -> None:
    """Every order of a request's parameters means the same, to the last detail."""
    vector = VECTORS[key]
    path, mark, query = vector["url"].partition("?")
    meant = asked(vector, fhir_words)

    for order in permutations(query.split("&")):
        assert asked(vector, fhir_words, target=(path + mark + "&".join(order)).encode()) == meant


@pytest.mark.parametrize("key", [key for key, vector in VECTORS.items() if vector["method"] == "GET"])
def test_head_means_what_get_means(key: str, fhir_words: FhirWords) -> None:
    """HEAD tells whether something is there, so it asks the same."""
    assert asked(VECTORS[key], fhir_words, method="HEAD") == asked(VECTORS[key], fhir_words)


@pytest.mark.parametrize("key", SEARCHES)
@pytest.mark.parametrize("include", ["_include=Observation:encounter", "_revinclude=Provenance:target", "_revinclude=Observation:patient",
                                     "_include=Observation:performer:Practitioner", "_include:iterate=Encounter:part-of"])  # fmt: skip
def test_an_include_never_takes_a_class_away(key: str, include: str, fhir_words: FhirWords) -> None:
    """What is brought along is asked for besides, and its classes come on top; no patient is named by it."""
    vector = VECTORS[key]
    plain, more = asked(vector, fhir_words), asked(vector, fhir_words, target=with_query(vector, include))

    assert more.answer == plain.answer
    assert set(more.classes) >= set(plain.classes)
    assert more.patients == plain.patients


@pytest.mark.parametrize("key", VECTORS)
def test_an_escape_of_a_plain_character_means_the_same_or_nothing(key: str, fhir_words: FhirWords) -> None:
    """Each letter of the address as an escape, in both cases: refused, or read alike."""
    vector = VECTORS[key]
    raw, meant = vector["url"].encode(), asked(vector, fhir_words)
    for place, byte in enumerate(raw):
        if not chr(byte).isalnum() and byte not in b"-._~":
            continue
        if b"%" in raw[max(0, place - 2) : place]:
            continue  # a digit of an escape
        for escape in (b"%%%02x" % byte, b"%%%02X" % byte):
            found = asked(vector, fhir_words, target=raw[:place] + escape + raw[place + 1 :])
            assert found == meant or found.answer == "deny"


@pytest.mark.parametrize("key", SEARCHES)
def test_a_search_by_post_means_what_a_search_by_get_means(key: str, fhir_words: FhirWords) -> None:
    """Parameters in the form, in the address, or divided between both; one that stands in both is refused."""
    vector = VECTORS[key]
    path, _, query = vector["url"].partition("?")
    pairs, form = query.split("&") if query else [], (("content-type", "application/x-www-form-urlencoded"),)
    meant = asked(vector, fhir_words)

    for cut in range(len(pairs) + 1):
        target = path + "/_search" + ("?" + "&".join(pairs[:cut]) if cut else "")
        body = "&".join(pairs[cut:]).encode()
        assert read_request(FhirRequest("POST", target.encode(), form, body), fhir_words) == meant
    doubled = f"{path}/_search?{query}".encode()
    if pairs:
        assert read_request(FhirRequest("POST", doubled, form, query.encode()), fhir_words).answer == "deny"
        assert read_request(FhirRequest("POST", doubled, (), query.encode()), fhir_words).answer == "deny"
    assert read_request(FhirRequest("POST", f"{path}/_search".encode(), form, None), fhir_words).answer == "deny"


@pytest.mark.parametrize("key", VECTORS)
def test_another_patient_beside_the_first_is_never_a_decision_on_the_first(key: str, fhir_words: FhirWords) -> None:
    """A second parameter that names somebody else denies; it never widens, and never goes unseen."""
    vector = VECTORS[key]
    if vector["method"] == "GET" and vector["patient"] not in ("none", "lookup"):
        for more in ("patient=p9", "subject=Patient/p9", "subject=p9", "patient=", "patient=p1,p9"):
            assert asked(vector, fhir_words, target=with_query(vector, more)).answer == "deny"


@pytest.mark.parametrize("key", VECTORS)
def test_headers_that_change_the_method_or_the_place_of_the_answer_refuse(key: str, fhir_words: FhirWords) -> None:
    """A method override, however spelt; an asynchronous answer, but for exports, whose answer is never unfiltered."""
    vector = VECTORS[key]
    for name in ("X-HTTP-Method-Override", "x_http_method_override", "X-Method-Override", "X-HTTP-Method"):
        assert asked(vector, fhir_words, headers=((name, "DELETE"),)).answer == "deny"
    later = asked(vector, fhir_words, headers=(("Prefer", "Respond-Async"),))
    assert later.answer == "deny" or later.action == "export"


@pytest.mark.parametrize("key", [key for key, vector in VECTORS.items() if vector["prefilter"] == "deny"])
def test_no_suffix_turns_a_refusal_into_a_decision(key: str, fhir_words: FhirWords) -> None:
    """Harmless parameters leave a refusal a refusal."""
    for more in ("_format=json", "_lastUpdated=ge2026", "code=1", "_elements=code", "_total=none", "_sort=date"):
        assert asked(VECTORS[key], fhir_words, target=with_query(VECTORS[key], more)).answer == "deny"


def test_every_answer_of_the_vectors_occurs(fhir_words: FhirWords) -> None:
    """The neighbours are of all kinds: public, decided, deferred, denied."""
    answers = Counter(read_request(request_of(vector), fhir_words).answer for vector in VECTORS.values())

    assert set(answers) == {"public", "decide", "defer", "deny"}
    assert all(RANK[asked(VECTORS[key], fhir_words).answer] > 0 for key in READS)


def test_a_category_takes_away_only_what_its_type_has(fhir_words: FhirWords) -> None:
    """An operation that brings every class keeps those that a category of its type says nothing of, and none is added."""
    lastn = next(each for each in fhir_words.operations if each.name == "$lastn")
    wide = msgspec.structs.replace(lastn, classes=("*",))
    words = msgspec.structs.replace(fhir_words, operations=(wide,))
    asked = FhirRequest("GET", b"/fhir/Observation/$lastn?patient=p1&category=laboratory")
    others = set(words.types["Observation"].classes) - {"labs"}

    assert set(read_request(asked, words).classes) == set(words.every) - others
    assert set(read_request(asked, fhir_words).classes) == {"labs"}
