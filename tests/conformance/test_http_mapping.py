"""Every vector of HTTP mapping is met, and so are its neighbours: what must not change an answer, does not."""

import pytest

from ruqsat.core.fhir.reading import read_request
from ruqsat.core.fhir.words import FhirWords
from tests.conformance.http_vectors import VECTORS, expected, request_of, shown

COUNT = 47
"""How many vectors there are: one that is lost is missed here."""


def test_no_vector_is_skipped(fhir_words: FhirWords) -> None:
    """All of the file are asked, each by its own id."""
    assert len(VECTORS) == COUNT
    assert len([key for key, vector in VECTORS.items() if read_request(request_of(vector), fhir_words)]) == COUNT


@pytest.mark.parametrize("key", VECTORS)
def test_a_vector_is_met(key: str, fhir_words: FhirWords) -> None:
    """Interaction, action, patient and both filters; classes where the request is not refused."""
    vector = VECTORS[key]

    found, promised = shown(read_request(request_of(vector), fhir_words), fhir_words), expected(vector)

    if vector["prefilter"] == "deny":
        del found["classes"], promised["classes"]
    assert found == promised
