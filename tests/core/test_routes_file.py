"""``routes.toml``, strictly read: whatever is in it, findings or routes, never a failure; and what it may not say."""

import random
import re

import pytest
from msgspec.structs import replace

from ruqsat.core.diagnostics import render
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.routes import parse_routes

FILE = "policies/routes.toml"

SLIPS = {
    "a word for a table": ("fhir = 1\n", "bad-route", 1),
    "an unknown part": ("[fhir.tpyes]\n", "bad-route", 1),
    "an unknown table": ("[routes]\n", "bad-route", 1),
    "routes as a table": ('[route]\nid = "x"\n', "bad-route", 2),
    "a server as a table": ('[fhir.server]\nbase = "/x"\n', "bad-route", 2),
    "a base without a root": ('[[fhir.server]]\nbase = "fhir"\n', "bad-path", 2),
    "a base with a placeholder": ('[[fhir.server]]\nbase = "/{id}"\n', "bad-path", 2),
    "two servers in each other": ('[[fhir.server]]\nbase = "/a"\n[[fhir.server]]\nbase = "/a/b"\n', "route-under-fhir", 4),
    "two servers whose patients may be others": ('[[fhir.server]]\nbase = "/a"\n[[fhir.server]]\nbase = "/b"\n', "patient-unclear", 3),
    "two servers whose patients are others": ('[fhir]\nshared_patients = false\n[[fhir.server]]\nbase = "/a"\n[[fhir.server]]\nbase = "/b"\n', "patient-unclear", 5),
    "patients shared by a word": ('[fhir]\nshared_patients = "yes"\n', "bad-route", 2),
    "a URL that is no base": ('[[fhir.server]]\nbase = "/a"\nurls = ["https://h/a/"]\n', "bad-path", 3),
    "a job without an id": ('[[fhir.server]]\nbase = "/a"\njobs = ["/jobs"]\n', "bad-path", 3),
    "a class that is none": ('[fhir.types]\nPatient = { classes = ["demographic"] }\n', "unknown-class", 2),
    "no class": ("[fhir.types]\nPatient = { classes = [] }\n", "class-unclear", 2),
    "several classes without a category": ('[fhir.types]\nX = { classes = ["labs", "vitals"] }\n', "class-unclear", 2),
    "a type in small letters": ('[fhir.types]\npatient = { classes = ["demographics"] }\n', "unknown-type", 2),
    "a misspelt field": ('[fhir.types]\nPatient = { classes = ["demographics"], buy = ["_id"] }\n', "bad-route", 2),
    "an action that is none": ('[fhir.types]\nX = { classes = ["labs"], actions = { read = "reed" } }\n', "unknown-action", 2),
    "an interaction that is none": ('[fhir.types]\nX = { classes = ["labs"], refused = { reed = "x" } }\n', "bad-route", 2),
    "a public record of a patient": ('[fhir.types]\nX = { classes = ["public", "labs"] }\n', "patient-unclear", 2),
    "a type mapped and not mapped": ('[fhir.types]\nX = { classes = ["labs"] }\n[fhir.unmapped]\nX = "why"\n', "unknown-type", 2),
    "a label under a name that is none": ('[fhir.labels]\nETH = "SUDS"\n', "bad-route", 2),
    "a label that is read as another": ('[fhir.labels]\nHIV = "SUD"\n', "bad-route", 2),
    "a chain accepted": ('[fhir.parameters]\nsearch = ["_has"]\n', "parameter-unclear", 2),
    "accepted and refused": ('[fhir.parameters]\nsearch = ["_tag"]\nrefused = { _tag = "why" }\n', "parameter-unclear", 2),
    "two patients at once": ('[fhir.types]\nX = { classes = ["labs"], by = ["patient"] }\n[fhir.parameters]\nrepeat = ["patient"]\n', "parameter-unclear", 4),
    "an include of nothing": ('[fhir.includes]\nencounter = ["Encounter"]\n', "unknown-type", 2),
    "an include that is no list": ('[fhir.includes]\nencounter = 1\n', "bad-route", 1),
    "an operation without a sign": ('[[fhir.operation]]\nname = "x"\non = ["/"]\naction = "search"\nclasses = ["*"]\npatient = "many"\n', "bad-path", 1),
    "an operation of nobody, on everybody": ('[[fhir.operation]]\nname = "$x"\non = ["/"]\naction = "search"\nclasses = ["*"]\npatient = "nobody"\n', "patient-unclear", 6),
    "an operation on no patient": ('[[fhir.operation]]\nname = "$x"\non = ["/"]\naction = "search"\nclasses = ["*"]\npatient = "path"\n', "patient-unclear", 6),
    "an answer unfiltered": ('[[fhir.operation]]\nname = "$x"\non = ["/"]\naction = "search"\nclasses = ["*"]\npatient = "many"\nfiltered = false\n', "patient-unclear", 6),
    "a refusal without a reason": ('[[fhir.operation]]\nname = "$x"\non = ["/"]\naction = "search"\nclasses = ["*"]\npatient = "refused"\n', "patient-unclear", 6),
    "a method that is none": ('[[fhir.operation]]\nname = "$x"\non = ["/"]\nmethods = ["HEAD"]\naction = "search"\nclasses = ["*"]\npatient = "many"\n', "unknown-method", 4),
}  # fmt: skip


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_refused_at_its_line(name: str, policy_set: PolicySet) -> None:
    """Each is told with its place, what is wrong and what to do; nothing of the file is used then."""
    text, code, line = SLIPS[name]

    table, findings = parse_routes(text, FILE, policy_set.vocabulary)

    found = [finding for finding in findings if finding.code == code]
    assert table is None
    assert found, [render(finding) for finding in findings]
    assert line in [finding.span.line for finding in found]
    assert all(finding.hint and finding.source for finding in found)


def test_a_type_of_a_patient_cannot_be_called_nobodys_in_the_vocabulary(policy_set: PolicySet) -> None:
    """Both files have to agree: a type that is about nobody needs no patient, and one with a patient is no such."""
    vocabulary = replace(policy_set.vocabulary, types={"Observation": "public", "Location": "directory"})

    for types, expected in (
        ('Observation = { classes = ["labs"], subject = ["subject"] }', ["patient-unclear"]),
        ('Location = { classes = ["directory"] }', []),
    ):
        _, findings = parse_routes(f"[fhir.types]\n{types}\n", FILE, vocabulary)
        assert [(finding.code, finding.span.line) for finding in findings] == [(code, 2) for code in expected]


def test_the_files_own_words_are_sound(pack_texts: dict[str, bytes], policy_set: PolicySet) -> None:
    """The shipped file has no finding, and every class of a patient stands at some type, but those of our own registries."""
    table, findings = parse_routes(pack_texts[FILE].decode(), FILE, policy_set.vocabulary)

    assert findings == []
    assert table is not None
    assert table.fhir is not None
    assert set(table.fhir.every) == set(policy_set.vocabulary.classes) - {
        "audit",
        "capacity",
        "civil_status",
        "directory",
        "public",
        "session",
        "request",
        "status",
        "proceeding",
        "queue",
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_file_with_a_piece_changed_is_read_or_refused(
    seed: int, pack_texts: dict[str, bytes], policy_set: PolicySet
) -> None:
    """A word taken out, doubled or made another: findings with places, or routes; never an exception, never both."""
    print("seed", seed)
    dice, text = random.Random(seed), pack_texts[FILE].decode()
    words = list(re.finditer(r"[\w$/*{}]+|[\[\]{}=,\"]", text))
    refused = 0
    for _ in range(40):
        word = dice.choice(words)
        new = dice.choice(["", word.group() * 2, "1", '"x"', "[]", "true", dice.choice(words).group()])
        table, findings = parse_routes(text[: word.start()] + new + text[word.end() :], FILE, policy_set.vocabulary)
        assert (table is None) is bool(findings)
        assert all(finding.span.file == FILE for finding in findings)
        refused += bool(findings)
    assert refused > 5


def test_servers_that_share_their_patients_are_accepted(policy_set: PolicySet) -> None:
    """One register gives out the ids of all: the file says so; a single server needs no such word."""
    two = '[[fhir.server]]\nbase = "/a"\n[[fhir.server]]\nbase = "/b"\n'

    for text in ("[fhir]\nshared_patients = true\n" + two, '[[fhir.server]]\nbase = "/a"\n'):
        table, findings = parse_routes(text, FILE, policy_set.vocabulary)
        assert table is not None, [render(finding) for finding in findings]
