"""A record as its server shows it: what is seen only narrows, and what cannot be read is nobody's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ruqsat.core.fhir.meaning import Authors, Lookup, Meaning, Refused
from ruqsat.core.fhir.records import MAX_RECORD_BYTES, Seen, elements_of, lookups_of, read_record, with_records
from ruqsat.core.fhir.references import is_id
from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.record_signature import is_named_by
from ruqsat.core.routes import mapped_of
from tests.fhir_ground import LAB, FhirRequest, observation, read_request

O1 = Lookup("Observation", "o1")
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
EVERY_CLASS = ("vitals", "labs", "imaging", "social", "genomics", "patient_reported")


def read(words: FhirWords, record: Any, asked: Lookup = O1) -> Seen:
    """What is seen of a record."""
    return read_record(record if isinstance(record, bytes) else json.dumps(record).encode(), asked, words)


def asked(words: FhirWords, method: str, target: str, body: Any = None, **headers: str) -> Meaning:
    """What a request means before any look-up."""
    content = None if body is None else json.dumps(body).encode()
    return read_request(FhirRequest(method, target.encode(), tuple(headers.items()), content), words)


def test_a_record_says_its_patient_class_and_labels(fhir_words: FhirWords) -> None:
    """The patient by the elements of its type, the class by its category, labels and more than normal confidentiality."""
    security = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}, {"code": "VIP"},
                {"system": CONFIDENTIALITY, "code": "R"}]  # fmt: skip
    seen = read(fhir_words, observation("o1", meta={"security": security}))

    assert seen == Seen("Observation", "o1", "p-dana", ("labs",), ("HIV", "VIP"), "R")
    allergy = {"resourceType": "AllergyIntolerance", "id": "a", "patient": {"reference": "Patient/p2"}}
    assert read(fhir_words, allergy, Lookup("AllergyIntolerance", "a")).patient == "p2"
    assert read(fhir_words, {"resourceType": "Patient", "id": "p1"}, Lookup("Patient", "p1")).patient == "p1"


def test_absence_says_nothing(fhir_words: FhirWords) -> None:
    """Without a category all classes of the type are meant; less than normal confidentiality is not passed on."""
    plain = observation("o1")
    del plain["category"]

    assert set(read(fhir_words, plain).classes) == set(EVERY_CLASS)
    for code in "ULMN":
        labelled = observation("o1", meta={"security": [{"system": CONFIDENTIALITY, "code": code}]})
        assert (read(fhir_words, labelled).labels, read(fhir_words, labelled).conf) == ((), None)


@pytest.mark.parametrize(
    ("codes", "conf"), [("R", "R"), ("RR", "R"), ("V", "V"), ("RV", "V"), ("VR", "V"), ("NR", "R"), ("X", "V")]
)
def test_the_highest_confidentiality_counts(fhir_words: FhirWords, codes: str, conf: str) -> None:
    """Of several levels the highest; what is no level is the highest."""
    security = [{"system": CONFIDENTIALITY, "code": code} for code in codes]

    assert read(fhir_words, observation("o1", meta={"security": security})).conf == conf


def test_a_label_under_another_name_is_read_as_the_vocabularys(fhir_words: FhirWords) -> None:
    """ETH is SUD; what no line of the pack names is taken as it is, and is a word that nobody knows."""
    for code, label in (("ETH", "SUD"), ("SUD", "SUD"), ("ETHUD", "ETHUD"), ("eth", "eth")):
        labelled = observation("o1", meta={"security": [{"code": code}]})
        assert read(fhir_words, labelled).labels == (label,)


def test_labels_stand_beside_meta_for_documents(fhir_words: FhirWords) -> None:
    """A DocumentReference has a list of them, a Composition of R4 one code."""
    document = {"resourceType": "DocumentReference", "id": "d", "subject": {"reference": "Patient/p1"},
                "securityLabel": [{"coding": [{"code": "PSY"}, {"system": CONFIDENTIALITY, "code": "V"}]}]}  # fmt: skip
    letter = {"resourceType": "Composition", "id": "c", "subject": {"reference": "Patient/p1"}, "confidentiality": "R"}

    seen = read(fhir_words, document, Lookup("DocumentReference", "d"))
    assert (seen.labels, seen.conf) == (("PSY",), "V")
    assert read(fhir_words, letter, Lookup("Composition", "c")).conf == "R"
    assert "securityLabel" in elements_of("DocumentReference", fhir_words)


def test_nothing_but_what_is_needed_is_asked_for(fhir_words: FhirWords) -> None:
    """Patient, category, labels; no value of a record leaves its server."""
    assert elements_of("Observation", fhir_words) == ("category", "id", "meta", "subject")


UNUSABLE: dict[str, Any] = {
    "another type": observation("o1", resourceType="Condition"),
    "another record": observation("o2"),
    "no id": {**observation("o1"), "id": None},
    "an outcome": {"resourceType": "OperationOutcome", "id": "o1"},
    "no subject": {k: v for k, v in observation("o1").items() if k != "subject"},
    "another server's": observation("o1", subject={"reference": "https://elsewhere.example/fhir/Patient/p-dana"}),
    "another server with our address in front": observation("o1", subject={"reference": "http://fhir.example.evil/Patient/p1"}),
    "contained": observation("o1", subject={"reference": "#p"}, contained=[{"resourceType": "Patient", "id": "p"}]),
    "logical": observation("o1", subject={"identifier": {"system": "urn:kz:iin", "value": "1"}}),
    "only displayed": observation("o1", subject={"display": "Dana"}),
    "a urn": observation("o1", subject={"reference": "urn:uuid:1"}),
    "versioned": observation("o1", subject={"reference": "Patient/p1/_history/1"}),
    "conditional": observation("o1", subject={"reference": "Patient?identifier=1"}),
    "a group": observation("o1", subject={"reference": "Group/g1"}),
    "of another type by its own word": observation("o1", subject={"reference": "Patient/p1", "type": "Group"}),
    "several patients": observation("o1", subject=[{"reference": "Patient/p1"}, {"reference": "Patient/p2"}]),
    "no object": [observation("o1")],
    "meta that is none": observation("o1", meta=[]),
    "labels that are no list": observation("o1", meta={"security": {"code": "HIV"}}),
    "a label without a code": observation("o1", meta={"security": [{"display": "HIV"}]}),
    "a label too long": observation("o1", meta={"security": [{"code": "H" * 65}]}),
    "too many labels": observation("o1", meta={"security": [{"code": f"L{n}"} for n in range(33)]}),
    "no JSON": b"<Observation/>",
    "nothing": b"",
    "a key twice": json.dumps(observation("o1"))[:-1].encode() + b',"subject":{"reference":"Patient/p2"}}',
    "a key twice in another case": json.dumps(observation("o1"))[:-1].encode() + b',"Subject":{"reference":"Patient/p2"}}',
    "too long": json.dumps(observation("o1", note="x" * MAX_RECORD_BYTES)).encode(),
    "too deep": b'{"a":' * 40 + b"1" + b"}" * 40,
    "not UTF-8": json.dumps(observation("o1")).encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_nobodys(name: str, fhir_words: FhirWords) -> None:
    """Another record, no patient of this server, several, or an answer that two readers could read differently."""
    with pytest.raises(Refused):
        read(fhir_words, UNUSABLE[name])


@pytest.mark.parametrize("kind", ["Organization", "ValueSet", "Basic", "Nonsense", "$job"])
def test_what_is_of_no_patient_is_not_read(kind: str, fhir_words: FhirWords) -> None:
    """Types that concern nobody, mean nothing or are none."""
    with pytest.raises(Refused):
        read(fhir_words, {"resourceType": kind, "id": "x", "subject": {"reference": "Patient/p1"}}, Lookup(kind, "x"))


def test_a_version_must_be_the_one_asked_for(fhir_words: FhirWords) -> None:
    """A server that tells the newest version instead is not believed, nor one that does not say which it tells."""
    second = Lookup("Observation", "o1", version="2")

    assert read(fhir_words, observation("o1", meta={"versionId": "2"}), second).patient == "p-dana"
    for meta in ({"versionId": "3"}, {}):
        with pytest.raises(Refused):
            read(fhir_words, observation("o1", meta=meta), second)


def test_our_own_addresses_are_ours_and_no_other(fhir_words: FhirWords) -> None:
    """An absolute reference counts under the address that we ask under, and under it only."""
    ours = fhir_words.with_url("https://fhir.internal/fhir")

    absolute = {"reference": "https://fhir.internal/fhir/Patient/p1"}
    assert read(ours, observation("o1", subject=absolute)).patient == "p1"
    for text in ("https://fhir.internal/fhirx/Patient/p1", "https://fhir.internal/Patient/p1", "http://fhir.internal/fhir/Patient/p1",
                 "https://fhir.internal/fhir/../Patient/p1", "https://fhir.internal/fhir//Patient/p1"):  # fmt: skip
        with pytest.raises(Refused):
            read(ours, observation("o1", subject={"reference": text}))


READ, DELETED = ("GET", "/fhir/Observation/o1"), ("DELETE", "/fhir/Observation/o1")


@pytest.mark.parametrize(("method", "target"), [READ, ("HEAD", "/fhir/Observation/o1"), DELETED])
def test_a_request_for_one_record_is_decided_once_it_was_seen(fhir_words: FhirWords, method: str, target: str) -> None:
    """It is asked about as one question: its patient, its class; nothing need be filtered any more."""
    meaning = asked(fhir_words, method, target)
    assert (lookups_of(meaning), mapped_of(meaning)) == ((O1,), None)

    mapped = mapped_of(with_records(meaning, {O1: Seen("Observation", "o1", "p1", ("labs",))}))

    assert mapped is not None
    assert (mapped.resource_type, mapped.resource_id, mapped.data_class, mapped.patient) == ("Observation", "o1", "labs", "p1")  # fmt: skip
    assert mapped.properties().parts is None


def test_labels_and_classes_become_parts_that_must_all_be_permitted(fhir_words: FhirWords) -> None:
    """Each class by itself; with the labels that were seen, and without them, as if nobody knew any."""
    seen = Seen("Observation", "o1", "p1", ("vitals", "labs"), ("HIV",), "R")

    mapped = mapped_of(with_records(asked(fhir_words, *READ), {O1: seen}))

    assert mapped is not None
    properties = mapped.properties()
    assert (properties.atomic, properties.conf, properties.labels) == (True, "R", None)
    assert properties.parts == tuple(
        {"id": "o1", "class": name, "labels": labels} for name in ("vitals", "labs") for labels in (None, ("HIV",))
    )


@pytest.mark.parametrize("found", [{}, {O1: None}, {Lookup("Observation", "o2"): Seen("Observation", "o2", "p1", ("labs",))},
                                   {O1: Seen("Observation", "o2", "p1", ("labs",))}, {O1: Seen("Condition", "o1", "p1", ("labs",))}])  # fmt: skip
def test_what_was_not_seen_denies(fhir_words: FhirWords, found: dict[Lookup, Seen | None]) -> None:
    """No answer, no record, or what was found of another one."""
    meaning = with_records(asked(fhir_words, *READ), found)

    assert (meaning.answer, mapped_of(meaning)) == ("deny", None)


def test_a_version_and_the_record_now_must_be_of_one_patient(fhir_words: FhirWords) -> None:
    """Both are looked up; a record that was moved to somebody else shows nobody its past; labels of both count."""
    meaning = asked(fhir_words, "GET", "/fhir/Observation/o1/_history/2")
    second = Lookup("Observation", "o1", version="2")
    assert set(lookups_of(meaning)) == {O1, second}
    now, before = Seen("Observation", "o1", "p1", ("labs",)), Seen("Observation", "o1", "p1", ("labs",), ("HIV",))

    together = with_records(meaning, {O1: now, second: before})
    assert (together.answer, together.patients, together.labels) == ("decide", ("p1",), ("HIV",))
    moved = Seen("Observation", "o1", "p2", ("labs",))
    for found in ({O1: moved, second: before}, {O1: now}, {second: before}, {O1: None, second: before}):
        assert with_records(meaning, found).answer == "deny"


def test_a_body_and_what_is_stored_must_be_of_one_patient(fhir_words: FhirWords) -> None:
    """An update that would move a record is denied; classes of both must be permitted, and that it is read."""
    meaning = asked(fhir_words, "PUT", "/fhir/Observation/o1", observation("o1", "p1"))
    assert lookups_of(meaning) == (O1,)
    assert mapped_of(meaning) is None

    same = with_records(meaning, {O1: Seen("Observation", "o1", "p1", ("vitals",))})
    assert (same.answer, same.patients, set(same.classes), same.also) == ("decide", ("p1",), {"labs", "vitals"}, ("read",))  # fmt: skip
    mapped = mapped_of(same)
    assert mapped is not None
    assert (mapped.action, mapped.also, mapped.patient, mapped.resource_id) == ("update", ("read",), "p1", "o1")
    assert with_records(meaning, {O1: Seen("Observation", "o1", "p2", ("labs",))}).reason == "patients_disagree"
    assert with_records(meaning, {}).answer == "deny"
    patient = asked(fhir_words, "PUT", "/fhir/Patient/p1", {"resourceType": "Patient", "id": "p1"})
    assert lookups_of(patient) == (Lookup("Patient", "p1"),)


HIV, RESTRICTED = {"code": "HIV"}, {"system": CONFIDENTIALITY, "code": "R"}


@pytest.mark.parametrize(("stored", "sent", "keeps"), [
    ([], [], True), ([HIV], [HIV], True), ([], [HIV], True), ([HIV], [HIV, {"code": "PSY"}], True),
    ([RESTRICTED], [{"system": CONFIDENTIALITY, "code": "V"}], True),
    ([HIV], [], False), ([HIV], [{"code": "PSY"}], False), ([RESTRICTED], [], False),
    ([{"system": CONFIDENTIALITY, "code": "V"}], [RESTRICTED], False),
])  # fmt: skip
def test_an_update_takes_no_label_away(fhir_words: FhirWords, stored: Any, sent: Any, keeps: bool) -> None:
    """What the stored record bears, the new one bears too; what either bears counts."""
    found = read(fhir_words, observation("o1", "p1", meta={"security": stored}))
    meaning = asked(fhir_words, "PUT", "/fhir/Observation/o1", observation("o1", "p1", meta={"security": sent}))

    changed = with_records(meaning, {O1: found})

    assert changed.reason == ("" if keeps else "labels_change")
    assert not keeps or {*changed.labels} == {each["code"] for each in (*stored, *sent)} - {"R", "V"}
    odd = observation("o1", "p1", meta={"security": "HIV"})
    assert asked(fhir_words, "PUT", "/fhir/Observation/o1", odd).reason == "unreadable_labels"


STATUS = {"op": "replace", "path": "/status", "value": "final"}


def test_a_patch_is_of_whom_the_stored_record_is(fhir_words: FhirWords) -> None:
    """Whose it is, the body need not say; one that touches the category may make any class of it."""
    meaning = asked(fhir_words, "PATCH", "/fhir/Observation/o1", [STATUS])
    assert lookups_of(meaning) == (O1,)
    found = {O1: Seen("Observation", "o1", "p1", ("labs",), ("HIV",))}

    seen = with_records(meaning, found)
    assert (seen.answer, seen.patients, seen.classes, seen.also) == ("decide", ("p1",), ("labs",), ("read",))
    assert mapped_of(seen) is not None
    other = asked(fhir_words, "PATCH", "/fhir/Observation/o1", [{"op": "remove", "path": "/Category/0"}])
    assert with_records(other, found).classes == EVERY_CLASS


def naming(**values: str) -> list[dict[str, str]]:
    """The tests by which a patch says of which record it is."""
    named = {"resourceType": "Observation", "id": "o1", "subject/reference": "Patient/p1"} | values
    return [{"op": "test", "path": f"/{path}", "value": value} for path, value in named.items() if value]


def test_a_patch_says_by_its_tests_of_which_record_it_is(fhir_words: FhirWords) -> None:
    """Type, id and subject, as they are; of another patient it is denied, and so is any other question."""
    named = asked(fhir_words, "PATCH", "/fhir/Observation/o1", [*naming(), STATUS])
    assert (named.source, named.patients, lookups_of(named)) == ("body", ("p1",), (O1,))
    assert is_named_by(named) and not is_named_by(asked(fhir_words, "PATCH", "/fhir/Observation/o1", [STATUS]))
    assert with_records(named, {O1: Seen("Observation", "o1", "p1", ("labs",))}).answer == "decide"
    assert with_records(named, {O1: Seen("Observation", "o1", "p2", ("labs",))}).reason == "patients_disagree"
    own = [{"op": "test", "path": "/resourceType", "value": "Patient"}, {"op": "test", "path": "/id", "value": "p1"}]
    assert is_named_by(asked(fhir_words, "PATCH", "/fhir/Patient/p1", [*own, {"op": "remove", "path": "/telecom"}]))


@pytest.mark.parametrize("tests", [
    naming(id="o2"), naming(id=""), naming(resourceType="Condition"), naming(resourceType=""),
    naming(**{"subject/reference": ""}), naming(status="final"), naming(**{"subject/reference": "Group/g1"}),
    naming(**{"subject/reference": "Patient?x=1"}), naming(**{"subject/reference": "https://elsewhere/fhir/Patient/p1"}),
    [*naming(), {"op": "test", "path": "/id", "value": "o2"}], [{"op": "test", "path": "/subject", "value": {}}],
    [{"op": "test", "path": "/status", "value": "final"}], [{"op": "test", "value": "o1"}],
], ids=str)  # fmt: skip
def test_a_patch_asks_nothing(fhir_words: FhirWords, tests: Any) -> None:
    """Tests that are not the three, or not of this record, are refused before anybody looks."""
    meaning = asked(fhir_words, "PATCH", "/fhir/Observation/o1", [*tests, STATUS])

    assert (meaning.answer, lookups_of(meaning), is_named_by(meaning)) == ("deny", (), False)


def with_staff(words: FhirWords) -> FhirWords:
    """The words, where ids of staff are those of the directory."""
    return replace(words, shared_staff=True)


DR, OTHER, H1, H2 = (
    {"reference": each} for each in ("Practitioner/dr", "Practitioner/x", "Organization/h1", "Organization/h2")
)
PATIENT_SAYS = {"reference": "Patient/p1"}


@pytest.mark.parametrize(("performer", "authors"), [
    ([DR], Authors("dr")), ([DR, H1], Authors("dr", "h1")), ([H1], Authors(None, "h1")), ([DR, DR], Authors("dr")),
    ([], Authors()), ([DR, OTHER], Authors()), ([DR, H1, H2], Authors("dr")), ([DR, OTHER, H1], Authors(None, "h1")),
    ([DR, PATIENT_SAYS], Authors()), ([{"reference": "PractitionerRole/r1"}, H1], Authors(None, "h1")),
    ([{"reference": "https://elsewhere/fhir/Practitioner/dr"}], Authors()), ([{"display": "Dr"}], Authors()),
    ([DR, {"identifier": {"value": "1"}}], Authors()), ([{"reference": "#dr"}], Authors()), (["dr"], Authors()),
    ([{"reference": "Practitioner/dr/_history/1"}], Authors()), (DR, Authors("dr")),
])  # fmt: skip
def test_who_wrote_a_record_is_known_where_it_is_sure(fhir_words: FhirWords, performer: Any, authors: Authors) -> None:
    """One practitioner, one organisation; several, others, and what cannot be read are as unknown as nobody."""
    record = observation("o1", performer=performer)

    assert read(with_staff(fhir_words), record).authors == authors
    assert read(fhir_words, record).authors == Authors()


def test_elements_of_several_kinds_say_alike_who_wrote_it(fhir_words: FhirWords) -> None:
    """Recorder and asserter, author and custodian; a subject or a practitioner in an organisation's place is nobody."""
    words = with_staff(fhir_words)

    def authors(kind: str, **more: Any) -> Authors:
        record = {
            "resourceType": kind,
            "id": "x",
            "subject": {"reference": "Patient/p1"},
            "patient": {"reference": "Patient/p1"},
        }
        return read(words, record | more, Lookup(kind, "x")).authors

    assert authors("Condition", recorder=DR, asserter=DR) == Authors("dr")
    assert authors("Condition", recorder=DR, asserter=OTHER) == Authors()
    assert authors("Composition", author=[DR], custodian=H1) == Authors("dr", "h1")
    assert authors("Composition", author=[DR, H2], custodian=H1) == Authors("dr")
    assert authors("Immunization", performer=[{"actor": DR}, {"actor": H1}]) == Authors("dr", "h1")
    assert authors("Encounter", serviceProvider=H1) == Authors(None, "h1")
    assert authors("Encounter", serviceProvider=DR) == Authors()
    assert elements_of("Condition", words) == ("asserter", "id", "meta", "recorder", "subject")
    assert "recorder" not in elements_of("Condition", fhir_words)


def test_a_change_that_says_otherwise_who_wrote_it_leaves_that_unknown(fhir_words: FhirWords) -> None:
    """The stored word counts as long as the body, or the patch, does not touch it; versions must agree."""
    words = with_staff(fhir_words)
    stored = {O1: read(words, observation("o1", "p1", performer=[DR]))}

    def left(method: str, body: Any) -> Authors:
        mapped = mapped_of(with_records(asked(words, method, "/fhir/Observation/o1", body), stored))
        assert mapped is not None
        return mapped.authors

    assert left("PUT", observation("o1", "p1", performer=[DR])) == Authors("dr")
    assert left("PUT", observation("o1", "p1", performer=[OTHER])) == Authors()
    assert left("PUT", observation("o1", "p1")) == Authors()
    assert left("PATCH", [STATUS]) == Authors("dr")
    assert left("PATCH", [{"op": "add", "path": "/performer/-", "value": OTHER}]) == Authors()
    seen = stored[O1]
    past = asked(words, "GET", "/fhir/Observation/o1/_history/2")
    second = replace(seen, authors=Authors("x"))
    mapped = mapped_of(with_records(past, {O1: seen, Lookup("Observation", "o1", version="2"): second}))
    assert mapped is not None and mapped.properties().author is None


@pytest.mark.parametrize("target", ["/fhir/Patient/p1", "/fhir/Observation?patient=p1", "/fhir/Observation?_id=o1", "/fhir/Observation/o1/_history",
                                    "/fhir/Encounter/e1/Observation", "/fhir/Encounter/e1/$everything", "/fhir/Observation/o1?_elements=code",
                                    "/fhir/Observation/o1?_summary=true", "/fhir/Observation/o1?x=1", "/fhir/Basic/b1", "/fhir/Organization/o1",
                                    "/fhir/Patient?identifier=urn:kz:iin%7C1", "/fhir?_getpages=a", "/fhir/AuditEvent?patient=p1"])  # fmt: skip
def test_nothing_is_looked_up_where_it_would_not_do(fhir_words: FhirWords, target: str) -> None:
    """Where no look-up is needed, where an answer must be filtered or a request rewritten, and what is refused anyway."""
    assert lookups_of(asked(fhir_words, "GET", target)) == ()
    assert lookups_of(asked(fhir_words, "PUT", "/fhir/Observation/o1")) == ()


def test_labels_of_a_category_that_several_systems_say_are_kept_apart(fhir_words: FhirWords) -> None:
    """Two categories of a record are two classes."""
    vital = [{"coding": [{"system": LAB[0]["coding"][0]["system"], "code": "vital-signs"}]}]

    assert read(fhir_words, observation("o1", category=LAB + vital)).classes == ("vitals", "labs")


KEYS = st.sampled_from(["subject", "reference", "type", "identifier", "system", "value", "meta", "security", "code", "coding", "category", "id",
                        "versionId", "participant", "actor", "securityLabel", "confidentiality", "contained", "display", "x", ""])  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.sampled_from(["Patient/p1", "Patient/p2", "HIV", "o1", CONFIDENTIALITY, "R"]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(["Observation", "DocumentReference", "Composition", "Appointment", "Patient"]),
    more=st.dictionaries(KEYS, JSON, max_size=6),
)
def test_whatever_a_server_tells_is_read_or_refused(kind: str, more: dict[str, Any], fhir_words: FhirWords) -> None:
    """Nothing else is raised; what is seen names one patient by an id, and never fewer classes than its categories say."""
    record = {"resourceType": kind, "id": "o1", "subject": {"reference": "Patient/p1"}} | more
    try:
        seen = read(fhir_words, record, Lookup(kind, "o1"))
    except Refused:
        return
    assert is_id(seen.patient) and seen.classes and set(seen.classes) <= set(fhir_words.types[kind].classes)
    assert set(map(type, seen.labels)) <= {str}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_bytes_a_server_sends_are_refused(fhir_words: FhirWords, body: bytes) -> None:
    """Bytes that are no record of FHIR are refused, whatever they are."""
    with pytest.raises(Refused):
        read(fhir_words, body)
