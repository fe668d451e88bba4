"""Facts as lines of a file: what is written is read back, what is wrong is said with its place and without its value."""

import inspect
import json
from typing import Any, get_type_hints

import jsonschema
import msgspec
import pytest
from hypothesis import given

from ruqsat.core import facts as all_facts
from ruqsat.core.facts import Consent, Facts, PatientFacts, Provision, SubjectFacts, entry_id
from ruqsat.core.facts_lines import (
    INSTANTS,
    LineError,
    Words,
    parse_header,
    parse_line,
    render_header,
    render_line,
    words_of,
)
from ruqsat.core.facts_schema import line_schema
from ruqsat.core.instant import Now
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.world import World
from tests.conftest import ROOT
from tests.core.strategies import worlds

CANARY = "880101300123"


@pytest.fixture(scope="module")
def words(policy_set: PolicySet) -> Words:
    """The words of the pack."""
    return words_of(policy_set.vocabulary)


def consent(**fields: Any) -> dict[str, Any]:
    """Return a permit as a hospital writes it down."""
    root = {
        "effect": "permit", "grantees": [{"org": "h1"}], "purposes": ["TREAT"], "actions": ["read"],
        "categories": ["clinical"], "start": "2026-01-01T00:00:00+05:00", "end": "2027-01-01T00:00:00+05:00",
    }  # fmt: skip
    whole = {
        "id": "c1", "thread": "t1", "status": "active", "granted_at": "2026-01-01T09:00:00+05:00", "root": root,
        "defect": None,
    }  # fmt: skip
    return whole | fields


def patient(**fields: Any) -> bytes:
    """Return the line of a patient."""
    return json.dumps({"patient": {"id": "p1"} | fields}).encode()


def request(**fields: Any) -> dict[str, Any]:
    """Return a request of a court."""
    return {"id": "q1", "authority": "court", "categories": ["labs"], "end": "2027-01-01T00:00:00Z"} | fields


def episode(**fields: Any) -> dict[str, Any]:
    """Return an episode of care."""
    return {"id": "e1", "org": "h1", "form_of_care": "planned", "start": "2026-01-01T00:00:00Z"} | fields


def test_everybody_of_the_world_is_read_back_as_written(world: World, policy_set: PolicySet, words: Words) -> None:
    """Facts, and bytes when written again."""
    for group in project_world(world, policy_set.vocabulary.switches):
        for facts in group:
            line = render_line(facts)
            assert parse_line(line, words) == facts
            assert render_line(parse_line(line, words)) == line


class AnyWord(frozenset[str]):
    """Words of which every one is known."""

    def issuperset(self, _: object) -> bool:
        """Say yes."""
        return True


@given(worlds)
def test_any_facts_are_read_back_as_written(situation: tuple[EvaluationRequest, Facts, Now]) -> None:
    """Whatever the facts are, as long as their words are known."""
    for facts in (situation[1].subject, situation[1].patient):
        if facts is not None:
            assert parse_line(render_line(facts), Words(*[AnyWord()] * 6)) == facts


def test_what_a_hospital_writes_by_hand_is_read(words: Words) -> None:
    """Local offsets, spaces and any order of fields."""
    facts = parse_line(patient(birth_date="1980-02-29", consents=[consent()]), words)

    assert isinstance(facts, PatientFacts)
    assert facts.consents[0].granted_at == 1_767_240_000_000_000
    assert facts.consents[0].root.categories == ("clinical",)


WRONG: list[tuple[str, bytes, str]] = [
    ("a misspelt field", patient(birthdate="1980-01-01"), "patient: unknown field `birthdate`"),
    ("a value for a name", patient(**{CANARY: 1}), "patient: unknown field"),
    ("a misspelt field deep inside", patient(consents=[consent(root={"effect": "deny", "label": ["HIV"]})]), "patient.consents[0].root: unknown field `label`"),
    ("an instant without an offset", patient(deceased_at="2026-01-01T00:00:00"), "patient.deceased_at: expected an instant"),
    ("an instant as a number", patient(deceased_at=1), "patient.deceased_at: expected an instant"),
    ("a wrong kind of value", patient(egov=CANARY), "patient.egov: expected `bool`, got `str`"),
    ("a value that is none of the list", patient(consents=[consent(status=CANARY)]), "patient.consents[0].status: expected one of the listed values"),
    ("a permit that is silent about its soundness", patient(consents=[{k: v for k, v in consent().items() if k != "defect"}]), "patient.consents[0]: a permit does not state its `defect`"),
    ("a refusal of a purpose that nobody knows", patient(consents=[consent(root={"effect": "deny", "purposes": [CANARY]})]), "patient.consents[0].root.purposes: a word that the vocabulary does not have"),
    ("an unknown label of a record", patient(records=[{"id": "r", "data_class": "labs", "labels": ["HVI"]}]), "patient.records[0].labels: a word that the vocabulary does not have"),
    ("an unknown role", b'{"subject":{"id":"s","roles":["doktor"]}}', "subject.roles: a word that the vocabulary does not have"),
    ("a document twice", patient(consents=[consent(), consent()]), "patient.consents: an id stands twice"),
    ("a field twice", b'{"patient":{"id":"p1","egov":false,"egov":true}}', "a field is written twice in one object"),
    ("a request twice", patient(requests=[request(), request(revoked_at="2026-01-02T00:00:00Z")]), "patient.requests: an id stands twice"),
    ("a request without an id", patient(requests=[request(id="")]), "patient.requests[0].id: expected an id"),
    ("a request for a class that nobody knows", patient(requests=[request(categories=["lab"])]), "patient.requests[0].categories: a word that the vocabulary does not have"),
    ("an episode twice at one organisation", patient(episodes=[episode(), episode()]), "patient.episodes: an id stands twice"),
    ("a tie twice at one organisation", patient(relationships=[{"kind": "order", "org": "h1", "id": "t"}, {"kind": "encounter", "org": "h1", "id": "t"}]), "patient.relationships: an id stands twice"),
    ("no root", patient(consents=[consent(root=None)]), "patient.consents[0].root: expected `object`, got `null`"),
    ("no root, and silent about its soundness", patient(consents=[{k: v for k, v in consent(root=None).items() if k != "defect"}]), "patient.consents[0].root: expected `object`, got `null`"),
    ("a root that is a list", patient(consents=[consent(root=[])]), "patient.consents[0].root: expected `object`, got `array`"),
    ("a property that nobody declared", b'{"subject":{"id":"s","properties":{"' + CANARY.encode() + b'":true}}}', "subject.properties: a word that the vocabulary does not have"),
    ("a thing of no type", b'{"subject":{"id":"x\\u001fy","resource_type":"x"}}', "subject.resource_type: a word that the vocabulary does not have"),
    ("a thing's id for a person", b'{"subject":{"id":"x\\u001fy"}}', "subject.id: expected an id"),
    ("no id", patient(id=""), "patient.id: expected an id"),
    ("a control character", patient(id="p1\u0000"), "patient.id: expected an id"),
    ("a control character elsewhere", b'{"subject":{"id":"s","org":"h\\n1"}}', "subject: a text holds a control character"),
    ("half a line", b'{"patient":{"id":"p1"', "the line is not JSON in UTF-8"),
    ("another encoding", '{"patient":{"id":"Дана"}}'.encode("cp1251"), "the line is not JSON in UTF-8"),
    ("both at once", b'{"patient":{"id":"p1"},"subject":{"id":"s"}}', "the line is no subject and no patient"),
    ("a list", b"[]", "the line is no subject and no patient"),
    ("NaN", b'{"subject":{"id":"s","btg_today":NaN}}', "the line is not JSON in UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_said_with_its_place_and_without_its_value(line: bytes, said: str, words: Words) -> None:
    """Nothing that could open a record by its loss is let through, and no value is repeated."""
    with pytest.raises(LineError) as caught:
        parse_line(line, words)

    assert str(caught.value) == said
    assert caught.value.do
    assert CANARY not in str(caught.value) + caught.value.do


DECLARED = Words(
    *[frozenset()] * 6, frozenset({"Dashboard"}), {"in_training": "yes-no", "unit": "text"}, {"level": "number"}
)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("in_training", "no", "yes-no"), ("in_training", 0, "yes-no"), ("unit", True, "text"),
        ("unit", "x" * 257, "text"),
    ],
)  # fmt: skip
def test_a_property_of_another_kind_than_declared_is_refused(name: str, value: Any, kind: str) -> None:
    """The text "no" would be a yes wherever a rule asks."""
    line = json.dumps({"subject": {"id": "s", "properties": {name: value}}}).encode()

    with pytest.raises(LineError) as caught:
        parse_line(line, DECLARED)

    assert str(caught.value) == f"subject.properties.{name}: expected a value of kind {kind}"


def test_properties_are_those_of_people_or_of_things() -> None:
    """A person says what is declared of subjects, a thing what is declared of resources; neither the other's."""
    person = SubjectFacts("s", properties={"in_training": False, "unit": "ward"})
    thing = SubjectFacts(entry_id("Dashboard", "7"), active=False, properties={"level": 2}, resource_type="Dashboard")
    for facts in (person, thing):
        assert parse_line(render_line(facts), DECLARED) == facts

    for facts, other in ((person, thing), (thing, person)):
        wrong = msgspec.structs.replace(facts, properties=other.properties)
        with pytest.raises(LineError, match=r"^subject\.properties: a word"):
            parse_line(render_line(wrong), DECLARED)


def test_a_number_that_no_memory_keeps_is_refused() -> None:
    """In 64 bits it is read, beyond them its line is refused, and not every question about that person."""
    for number, fits in ((2**63 - 1, True), (2**64, False), (-(2**63) - 1, False)):
        line = b'{"subject": {"id": "s", "btg_today": %d}}' % number
        if fits:
            assert parse_line(line, DECLARED).btg_today == number  # type: ignore[union-attr]
        else:
            with pytest.raises(LineError, match="more than 64 bits"):
                parse_line(line, DECLARED)


@pytest.mark.parametrize("id_", ["Dashboard", "Dashboard\x1f", "7", "Other\x1f7", "Dashboard\x1f7\x1f8"])
def test_a_thing_stands_under_its_type_and_id(id_: str) -> None:
    """As the directory looks it up; under anything else nobody would find it, or somebody else."""
    with pytest.raises(LineError, match="expected an id"):
        parse_line(render_line(SubjectFacts(id_, resource_type="Dashboard")), DECLARED)


def test_organisations_may_give_episodes_and_ties_the_same_id(words: Words) -> None:
    """Each counts its own; and ties that nobody reported have none."""
    line = patient(
        episodes=[episode(), episode(org="h2")],
        relationships=[{"kind": "order", "org": org, "id": id_} for org in ("h1", "h2") for id_ in ("t", None)],
    )

    assert isinstance(parse_line(line, words), PatientFacts)


def test_a_quarantined_refusal_may_say_words_that_nobody_knows(words: Words) -> None:
    """It closes everything because of them."""
    refusal = consent(status="quarantined", root={"effect": "deny", "purposes": ["whatever"]})

    assert isinstance(parse_line(patient(consents=[refusal]), words), PatientFacts)


@pytest.mark.parametrize(
    "line", [b"", b'{"patient": {"id": "p1"}}', b'{"ruqsat_facts": 2}', b'{"ruqsat_facts": 1, "patient": 3}']
)
def test_a_file_that_does_not_name_the_format_is_refused(line: bytes) -> None:
    """Another version, a misspelt count, no first line at all."""
    with pytest.raises(LineError):
        parse_header(line)


def test_the_first_line_is_read_back() -> None:
    """The first line of a file is read as it was written, with its counts."""
    header = parse_header(render_header(3, 0))
    assert (header.subjects, header.patients) == (3, 0)


def test_every_number_among_the_facts_is_known_to_be_an_instant_or_a_count() -> None:
    """A new field that is an instant cannot be forgotten here and be written as a number."""
    structs = [each for _, each in inspect.getmembers(all_facts, inspect.isclass) if issubclass(each, msgspec.Struct)]
    numbers = {
        name
        for struct in structs
        if struct.__name__ not in ("Position", "Facts")
        for name, hint in get_type_hints(struct).items()
        if hint in (int, int | None)
    }

    assert numbers == INSTANTS | {"btg_today", "reason_length"}


def test_the_schema_of_the_documents_is_the_one_that_the_program_prints() -> None:
    """docs/schemas/facts-line.schema.json: `ruqsat facts schema`."""
    assert json.loads((ROOT / "docs/schemas/facts-line.schema.json").read_text()) == json.loads(
        msgspec.json.encode(line_schema())
    )


def test_the_schema_says_of_lines_what_the_reader_says(world: World, policy_set: PolicySet) -> None:
    """Everybody of the world is valid; a misspelt field and a silent permit are not."""
    validator = jsonschema.Draft202012Validator(line_schema())
    for group in project_world(world, policy_set.vocabulary.switches):
        for facts in group:
            validator.validate(json.loads(render_line(facts)))
    validator.validate(json.loads(render_header(1, 2)))
    silent = Consent("c", "t", "active", 0, Provision("permit"))
    line = json.loads(render_line(PatientFacts("p", consents=(silent,))))
    del line["patient"]["consents"][0]["defect"]
    for wrong in (
        line,
        {"patient": {"id": "p", "birthdate": "1980-01-01"}},
        {"patient": {"id": "p", "deceased_at": 1}},
    ):
        assert not validator.is_valid(wrong)
