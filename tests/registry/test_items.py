"""What of a consent fails which item: one whole consent fails none, and every change of the corpus its own."""

import pytest

from ruqsat.core.consent_items import FIXES, LAWS, Catalogue, Failing, catalogue_of, failing_items
from ruqsat.core.instant import parse_instant
from ruqsat.core.vocabulary import parse_vocabulary
from ruqsat.web.consent_models import ConsentIn, read_model
from ruqsat.web.problems import Refusal
from tests.conftest import ROOT
from tests.registry.corpus import BY_REPRESENTATIVE, FAILS, GONE, REFUSED, Fails, Refused, changed
from tests.registry.documents import consent

NOW = parse_instant("2026-11-25T12:00:00Z")


def known() -> Catalogue:
    """Return the lists of the pack's own vocabulary."""
    vocabulary, _ = parse_vocabulary((ROOT / "policies" / "vocabulary.toml").read_text(), "vocabulary.toml")
    assert vocabulary is not None
    return catalogue_of(vocabulary)


CATALOGUE = known()
BESIDE = {"/owner/iin": {"R9.10"}}
"""Items that a change elsewhere breaks too: the certificate is then another person's."""


def items(document: dict[str, object]) -> tuple[Failing, ...]:
    """Return what a document fails, read as the API reads it."""
    import json  # noqa: PLC0415

    return failing_items(read_model(ConsentIn, json.dumps(document).encode()), NOW, CATALOGUE)


def test_the_corpus_is_large_and_names_each_item() -> None:
    """Eighty or more; that every item and finding occurs is promised of all corpora together, in ``test_records``."""
    assert len(FAILS) + len(REFUSED) >= 80
    assert {case.item for case in FAILS} <= set(LAWS) and {case.code for case in FAILS} <= set(FIXES)


@pytest.mark.parametrize("whole", [
    {},
    {"owner.patronymic": GONE},
    {"responsible": [consent()["responsible"][0]] * 2},
    {"form": "written", "signature": {"kind": "handwritten", "at": "2026-04-01T04:00:00Z"}},
    {"form": "egov_cabinet", "state_service_ref": "ref", "operator.is_state": True,
     "signature": {"kind": "state_service_proof", "at": "2026-04-01T04:00:00Z"}},
    {"operator.kind": "individual", "operator.iin": "880808100203", "operator.surname": "A", "operator.given": "B"},
    {"grantees": [{"org": "h1"}, {"org": "h2"}], "third_party_transfer": True},
    {"cross_border": ["DE"]},
    BY_REPRESENTATIVE,
])  # fmt: skip
def test_a_whole_consent_fails_nothing(whole: dict[str, object]) -> None:
    """In each form of §8, by the owner or a representative, to an organisation or a single practitioner."""
    assert items(changed(whole)) == ()


@pytest.mark.parametrize("case", FAILS, ids=lambda case: f"{case.path} {case.code}")
def test_each_change_fails_its_item(case: Fails) -> None:
    """The place, the item and the code are among the findings, and no finding repeats a value."""
    found = items(changed(case.changes))

    assert (case.path, case.item, case.code) in [(each.path, each.item, each.code) for each in found]
    assert all(each.law and each.fix and "CANARY" not in repr(each) for each in found)


@pytest.mark.parametrize("case", [c for c in FAILS if len(c.changes) == 1], ids=lambda case: f"{case.path} {case.code}")
def test_one_change_fails_no_other_item(case: Fails) -> None:
    """Where one place is changed, every finding is about what that place has to do with."""
    assert {each.item for each in items(changed(case.changes))} - BESIDE.get(case.path, set()) == {case.item}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{next(iter(case.changes))} {case.field}")
def test_what_has_no_shape_is_refused_by_its_place(case: Refused) -> None:
    """The problem document names the place and a code, and repeats nothing that was sent."""
    with pytest.raises(Refusal) as refused:
        items(changed(case.changes))

    assert (refused.value.status, refused.value.code) == (case.status, case.code)
    found = [(each["path"], each["code"]) for each in refused.value.errors]
    assert case.path in [path for path, _ in found]
    assert case.field is None or (case.path, case.field) in found
    assert "CANARY" not in repr(refused.value.errors) + refused.value.detail


def test_a_refusal_needs_nothing() -> None:
    """Patient and effect are enough (order §14)."""
    assert items({"patient": "p-dana", "effect": "deny"}) == ()
    assert items({"patient": "p-dana", "effect": "permit"}) != ()
