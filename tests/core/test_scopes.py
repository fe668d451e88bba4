"""Categories in SMART scopes: the classes that routes.toml gives them, and nothing else."""

import pytest

from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.scopes import is_in_scope, read_coded

SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-category"


def is_open(policy_set: PolicySet, category: str, data_class: str | None, kind: str = "Observation") -> bool:
    """Whether a scope narrowed to a category lets a search of that class through."""
    scopes = (f"user/*.rs?category={category}",)
    return is_in_scope(scopes, kind, data_class, "search", False, policy_set.vocabulary.coded)


def test_every_category_of_the_routes_is_one_of_scopes(policy_set: PolicySet, fhir_words: FhirWords) -> None:
    """There is one list: what a search's category means, a scope's means too, with its system or without."""
    for kind, category in fhir_words.categories.items():
        for code, data_class in category.codes.items():
            for front in ("", *(f"{system}|" for system in category.systems)):
                opened = {
                    name for name in policy_set.vocabulary.classes if is_open(policy_set, front + code, name, kind)
                }
                assert opened == {data_class}


@pytest.mark.parametrize(("category", "data_class", "kind"), [
    ("laboratory", "vitals", "Observation"), ("laboratory", None, "Observation"), ("unheard-of", None, "Observation"), ("unheard-of", "labs", "Observation"),
    ("http://elsewhere|laboratory", "labs", "Observation"), ("laboratory|laboratory", "labs", "Observation"), ("|laboratory", "labs", "Observation"),
    (f"{SYSTEM}|LAB", "labs", "Observation"), ("LAB", "labs", "Observation"), ("laboratory", "labs", "DiagnosticReport"), ("laboratory", "labs", "Record"),
])  # fmt: skip
def test_what_is_not_in_the_list_grants_nothing(
    category: str, data_class: str | None, kind: str, policy_set: PolicySet
) -> None:
    """A code of another system, of another type, or of none; also where nobody knows the record's class."""
    assert not is_open(policy_set, category, data_class, kind)


def test_another_packs_list_is_another(pack_texts: dict[str, bytes]) -> None:
    """The list is the pack's own: a category that it does not map grants nothing there."""
    routes = pack_texts["policies/routes.toml"].replace(b"laboratory = ", b"lab-at-home = ")
    other, _ = load_pack(pack_texts | {"policies/routes.toml": routes})

    assert other is not None
    assert is_open(other, "lab-at-home", "labs")
    assert not is_open(other, "laboratory", "labs")


@pytest.mark.parametrize(
    "text", ["", "[", "fhir = 1", "[fhir]\ncategories = 1", "[fhir.categories.X]\ncodes = 1", "[fhir.categories.X]\n"]
)
def test_a_list_that_cannot_be_read_is_empty(text: str) -> None:
    """Nothing is guessed; whoever reads the routes says what is wrong."""
    assert read_coded(text) == frozenset()
