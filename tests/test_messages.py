"""Every reason has its text in Kazakh, Russian and English."""

import ast
import re
from itertools import islice

import pytest

from ruqsat.core.check_row import TOPICS
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations
from ruqsat.messages import CATALOGUES, LANGUAGES, text_of, word_of
from tests.conformance.test_scenarios import SCENARIOS
from tests.conftest import ROOT

SOURCES = ROOT / "src/ruqsat"


def catalogue(language: str) -> dict[str, str]:
    """Return the entries of a catalogue."""
    texts = [(SOURCES / "messages" / f"{prefix}{language}.ftl").read_text() for prefix in CATALOGUES]
    lines = "\n".join(texts).splitlines()
    return dict(line.split(" = ", 1) for line in lines if line and line[0] != "#")  # type: ignore[misc]


def reasons(policy_set: PolicySet) -> set[str]:
    """Return every reason that the source writes, the rules give, the scenarios expect and a sample met."""
    found = {scenario.expect.reason for scenario in SCENARIOS.values()}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"^(?:deny|allow)\.[a-z_.]*[a-z]$", node.value))
    for rule in policy_set.rules:
        if rule.allows:
            found.add(policy_set.vocabulary.bases[rule.ground].reason)
        elif not rule.ground.endswith("*"):
            found.add(f"deny.{rule.ground}")
    found |= {evaluate(policy_set, *each).reason for each in islice(situations(policy_set, 9), 10_000)}
    return found - {"deny.mutant.flipped"}


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_has_its_text(language: str, policy_set: PolicySet) -> None:
    """In each language; a topic that a section tells has its words too."""
    missing = sorted(reason for reason in reasons(policy_set) if not text_of(reason, language))  # type: ignore[arg-type]

    assert missing == []
    for topic in TOPICS:
        assert any(name.startswith(f"deny-{topic}-") for name in catalogue(language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_client_may_learn_has_its_words(language: str, policy_set: PolicySet) -> None:
    """Each coarse reason of the pack, and the two that are the sidecar's own."""
    coarse = {*policy_set.vocabulary.reasons.values(), "not_permitted", "overloaded"}
    assert [each for each in sorted(coarse) if not text_of(f"client.{each}", language)] == []  # type: ignore[arg-type]


def test_the_three_catalogues_say_the_same_things_in_three_languages() -> None:
    """The same entries; no text left in another language; nothing empty."""
    texts = {language: catalogue(language) for language in LANGUAGES}

    assert texts["kk"].keys() == texts["ru"].keys() == texts["en"].keys()
    for name in texts["en"]:
        assert not re.search("[а-яәіңғүұқөһ]", texts["en"][name]), name
        assert len({texts[language][name] for language in LANGUAGES}) == 3, name
        assert all(re.search("[а-яәіңғүұқөһ]", texts[language][name]) for language in ("kk", "ru")), name
    assert sum(bool(re.search("[әіңғүұқөһ]", text)) for text in texts["kk"].values()) > len(texts["kk"]) * 0.9
    assert not any(re.search("[әңғүұқөһ]", text) for text in texts["ru"].values())


@pytest.mark.parametrize(
    ("name", "said", "unsaid"),
    [
        ("word-basis-kz273_4_6", ("sexual", "жыныстық", "сексуальному"), ()),
        ("word-basis-emergency_override", (), ("refus", "бас тарт", "отказ")),
        ("word-purpose-BTG", (), ("refus", "бас тарт", "отказ")),
        ("source-medical_documentation", (), ("device", "құрылғы", "устройств")),
        ("deny-collect-id_document", ("identity", "жеке басты", "удостоверяющих личность"), ()),
        ("page-until", (), ("until", "дейін", "до ")),
        ("log-title-ward", ("data", "деректеріне", "данным"), ()),
    ],
)
def test_a_text_says_what_is_so_in_each_language(name: str, said: tuple[str, ...], unsaid: tuple[str, ...]) -> None:
    """The law's own limits, no refusal that perhaps nobody made, an end by its last day."""
    texts = [catalogue(language)[name].lower() for language in ("en", "kk", "ru")]
    assert all(word in text for word, text in zip(said, texts, strict=False))
    assert not any(word in text for word, text in zip(unsaid, texts, strict=False))


def test_a_reason_that_nobody_wrote_has_no_text() -> None:
    """Of a reason that no catalogue has, no text is made up."""
    assert text_of("deny.nothing.like.it", "en") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_that_a_patient_may_meet_has_its_text(language: str, policy_set: PolicySet) -> None:
    """Roles, actions, classes, purposes and bases of the pack, in each language; another pack's word stands for itself."""
    words = policy_set.vocabulary
    listed = {
        "role": words.roles,
        "action": words.actions,
        "class": words.classes,
        "purpose": words.purposes,
        "basis": words.bases,
    }

    known = catalogue(language)
    assert [
        f"word-{kind}-{word}" for kind, found in listed.items() for word in found if f"word-{kind}-{word}" not in known
    ] == []
    assert word_of("role", "shaman", language) == "shaman"  # type: ignore[arg-type]
