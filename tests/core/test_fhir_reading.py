"""FHIR requests, rule by rule: what can be decided, and what cannot."""

import json
from typing import Any

import msgspec
import pytest

from ruqsat.core.fhir.meaning import NEW_PATIENT, Lookup, Meaning
from ruqsat.core.fhir.words import FhirWords, Server
from tests.fhir_ground import FhirRequest, read_request

SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-category"
OBSERVATIONS = ("vitals", "labs", "imaging", "social", "genomics", "patient_reported")
P1 = {"reference": "Patient/p1"}


def ask(words: FhirWords, method: str, url: str, body: Any = None, **headers: str) -> Meaning:
    """Return what a request means."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return read_request(
        FhirRequest(method, url.encode(), named, None if body is None else json.dumps(body).encode()), words
    )


def observation(**more: Any) -> dict[str, Any]:
    """An Observation of p1's."""
    return {"resourceType": "Observation", "subject": P1} | more


def category(*codes: str, system: str = SYSTEM) -> list[dict[str, Any]]:
    """Categories of an Observation, each of one code."""
    return [{"coding": [{"system": system, "code": code}]} for code in codes]


def transaction(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    """A Bundle."""
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def post(resource: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An entry that creates."""
    return {"request": {"method": "POST", "url": resource["resourceType"]}, "resource": resource} | more


DECIDED = {
    "/fhir/Patient/p1": ("read", "p1"),
    "/fhir/Patient/p1/_history/2": ("vread", "p1"),
    "/fhir/Patient/p1/*": ("search-compartment", "p1"),
    "/fhir?patient=p1": ("search-system", "p1"),
    "/fhir/Observation?patient=Patient/p1": ("search-type", "p1"),
    "/fhir/Observation?subject:Patient=p1": ("search-type", "p1"),
    "/fhir/Observation?patient=p1&subject=Patient/p1": ("search-type", "p1"),
    "/fhir/Observation?patient=p1&date=ge2026&date=lt2027": ("search-type", "p1"),
    "/fhir/Observation?patient=p1&_id=o1": ("search-type", "p1"),
    "/fhir/Observation?patient=p1&performer:Practitioner=d1": ("search-type", "p1"),
    "/fhir/Coverage?beneficiary=Patient/p1": ("search-type", "p1"),
    "/fhir/AuditEvent?patient=p1": ("search-type", "p1"),
    "/fhir/Patient/p1/$everything?_type=Observation": ("operation", "p1"),
    "/fhir/Observation/$lastn?patient=p1": ("operation", "p1"),
    "/fhir/Patient/$export?patient=p1,p2": ("operation", "many"),
    "/fhir/Patient?_id=p1&name=A": ("search-type", "p1"),
    "/fhir/Practitioner/_history": ("history-type", "none"),
}  # fmt: skip

DEFERRED = {
    "/fhir/Observation/o1": "lookup", "/fhir/Observation/o1/_history": "lookup", "/fhir/Encounter/e1/Observation": "lookup",
    "/fhir/Encounter/e1/$everything": "lookup", "/fhir/Patient?identifier=urn:kz:iin|1": "lookup",
    "/fhir/Observation?subject:identifier=urn:kz:iin%7C1": "lookup", "/fhir/Observation?_id=o1,o2": "lookup",
    "/fhir/Patient?birthdate=2000": "many", "/fhir/Group/g1/$export": "many", "/fhir/bulkstatus/1": "lookup",
    "/fhir?_getpages=a": "lookup", "/fhir/Consent/c1": "lookup", "/fhir/Composition/c1/$document": "lookup",
}  # fmt: skip

DENIED = {
    # nobody, or everybody
    "/fhir": "no_patient", "/fhir/Patient": "no_patient", "/fhir/Patient?_count=5": "no_patient", "/fhir/_history": "no_patient",
    "/fhir/Patient/_history": "no_patient", "/fhir/Observation?date=2026": "no_patient", "/fhir/Patient/$export": "no_patient",
    "/fhir/Binary?_count=5": "no_patient",
    # patients that disagree, or are none
    "/fhir/Observation?patient=p1&subject=Patient/p2": "patients_disagree", "/fhir/Patient/p1/Observation?subject=p2": "patients_disagree",
    "/fhir/Observation?patient=p1&patient=p2": "patients_disagree", "/fhir/Observation?patient=p1&patient=p1": "parameter_twice",
    "/fhir/Observation?patient=p1&status=a&category=laboratory&category=imaging": "parameter_twice",
    "/fhir/Observation?subject=Group/g1": "not_a_patient", "/fhir/Observation?patient=Practitioner/d1": "not_a_patient",
    "/fhir/Observation?patient=http://elsewhere/fhir/Patient/p1": "foreign_reference", "/fhir/Observation?patient=": "unreadable_reference",
    "/fhir/Observation?patient=p1,": "unreadable_reference", "/fhir/Observation?patient=p_1": "unreadable_reference",
    "/fhir/Observation?patient=Patient/p1/_history/1": "unreadable_reference", "/fhir/Observation?patient=urn:uuid:1": "unresolved_reference",
    "/fhir/Observation?patient:Group=g1": "unknown_modifier", "/fhir/Patient?identifier=1": "identifier",
    "/fhir/Patient?identifier=urn:kz:iin|1,urn:kz:iin|2": "identifier", "/fhir/AllergyIntolerance?subject=p1": "unknown_parameter",
    "/fhir/AllergyIntolerance?patient=p1&subject=p2": "unknown_parameter", "/fhir/Observation/_search?patient=p1": "invalid",
    "/fhir/Observation?patient=Patient?x:1": "conditional_reference",
    # chains
    "/fhir/Observation?subject.name=A": "chained_parameter", "/fhir/Observation?patient=p1&performer:Practitioner.name=A": "chained_parameter",
    # counts, totals, what cannot be filtered
    "/fhir/Condition?patient=p1&_summary=count": "count", "/fhir/Condition?patient=p1&_count=0": "count",
    "/fhir/Condition?patient=p1&_count=x": "unknown_value", "/fhir/Condition?patient=p1&_summary=x": "unknown_value",
    "/fhir/Patient/p1/$everything?_count=0": "count", "/fhir/Observation/o1/_history?_count=0": "count",
    "/fhir/Condition?patient=p1&_elements=code.text": "unknown_value", "/fhir/Condition?patient=p1&_sort=patient.name": "chained_parameter",
    # includes
    "/fhir/Condition?patient=p1&_include=Condition:*": "include_everything", "/fhir/Condition?patient=p1&_include=Condition:odd": "unknown_include",
    "/fhir/Condition?patient=p1&_include=Condition:subject:Group": "unknown_include", "/fhir/Condition?patient=p1&_revinclude=Basic:subject": "unknown_include",
    "/fhir/Condition?patient=p1&_revinclude=AuditEvent:patient": "unknown_include",
    "/fhir/Practitioner?_revinclude=Observation:performer": "no_patient",
    # compartments and shapes
    "/fhir/Practitioner/d1/Observation": "compartment", "/fhir/Patient/p1/Practitioner": "compartment", "/fhir/Patient/p1/Basic": "unmapped_type",
    "/fhir/Patient/p1/*?_type=Practitioner": "compartment", "/fhir/Patient/p1/$everything?_type=Practitioner": "compartment",
    "/fhir/Patient/$export?patient=p1&_type=Practitioner": "compartment",
    "/fhir/Patient/p1/observation": "invalid", "/fhir/Patient/p1/_history/2/x": "invalid", "/fhir/PATIENT/p1": "invalid",
    "/fhir/patient/p1": "invalid", "/fhir/Patient/p_1": "invalid", "/fhir/Patient/" + "a" * 65: "invalid", "/fhir/Group/g1": "unmapped_type",
    "/fhir/Nothing/n1": "unmapped_type", "/Patient/p1": "no_server", "/fhirx/Patient/p1": "no_server", "/fhir/Patient/p1/../p2": "bad_target",
    "/fhir/Patient/p1%2f..%2fp2": "bad_target", "/fhir/Patient//p1": "bad_target", "/fhir/Patient/p1;x": "bad_target",
    # operations and pages
    "/fhir/$unknown": "unknown_operation", "/fhir/Patient/p1/$meta": "unknown_operation", "/fhir/Patient/p1/$graphql": "refused_operation",
    "/fhir/Observation/$everything": "unknown_operation", "/fhir/Patient/p1/$everything?_elements=code": "unexpected_parameter",
    "/fhir/Patient/p1/$everything?_type=Basic": "unmapped_type", "/fhir/Patient/$match": "method", "/fhir?_getpages=a&patient=p1": "unexpected_parameter",
    "/fhir/Observation?_getpages=a&patient=p1": "refused_parameter", "/fhir/bulkstatus/1?patient=p1": "unexpected_parameter",
    "/fhir?_type=Basic&patient=p1": "unmapped_type", "/fhir?_type=Observation,Practitioner&patient=p1": "unknown_parameter",
    "/fhir/Patient/p1?patient=p2": "unexpected_parameter", "/fhir/Subscription/s1": "refused_interaction",
}  # fmt: skip


@pytest.mark.parametrize("url", DECIDED)
def test_a_request_that_says_whose_data_it_wants_can_be_decided(url: str, fhir_words: FhirWords) -> None:
    """The path or one parameter names the patient; nothing need be looked up."""
    meaning = ask(fhir_words, "GET", url)

    assert (meaning.interaction, meaning.whose, meaning.answer) == (*DECIDED[url], "decide")


@pytest.mark.parametrize("url", DEFERRED)
def test_a_request_for_a_record_waits_for_whose_it_is(url: str, fhir_words: FhirWords) -> None:
    """Whose a record is, who has an identifier and who is in a group is not in the request."""
    meaning = ask(fhir_words, "GET", url)

    assert (meaning.whose, meaning.answer) == (DEFERRED[url], "defer")


@pytest.mark.parametrize("url", DENIED)
def test_a_request_that_could_be_meant_otherwise_is_refused(url: str, fhir_words: FhirWords) -> None:
    """Each refusal has its own reason, of a closed list."""
    meaning = ask(fhir_words, "GET", url)

    assert (meaning.answer, meaning.reason) == ("deny", DENIED[url])


@pytest.mark.parametrize(
    ("criteria", "classes"),
    [("category=laboratory", ("labs",)), (f"category={SYSTEM}%7Claboratory", ("labs",)), ("category=laboratory,sdoh", ("labs", "social")),
     ("category=laboratory,odd", OBSERVATIONS), ("category=other%7Claboratory", OBSERVATIONS), ("category=%7Claboratory", OBSERVATIONS),
     ("category:not=laboratory", OBSERVATIONS), ("category:in=x", OBSERVATIONS), ("category=Laboratory", OBSERVATIONS), ("code=1", OBSERVATIONS)],
)  # fmt: skip
def test_only_a_known_category_narrows(criteria: str, classes: tuple[str, ...], fhir_words: FhirWords) -> None:
    """A search that names no category, or one that nobody mapped, concerns every class of the type."""
    assert set(ask(fhir_words, "GET", f"/fhir/Observation?patient=p1&{criteria}").classes) == set(classes)


@pytest.mark.parametrize(
    ("categories", "classes"),
    [(category("laboratory"), ("labs",)), (category("laboratory", "imaging"), ("labs", "imaging")), (category("laboratory", "odd"), OBSERVATIONS),
     (category("laboratory", system="other"), OBSERVATIONS), ([], OBSERVATIONS), (None, OBSERVATIONS), ("laboratory", OBSERVATIONS),
     ([{"coding": "laboratory"}], OBSERVATIONS), ([{"text": "laboratory"}], OBSERVATIONS), ([{"coding": [{"code": "laboratory"}]}], OBSERVATIONS)],
)  # fmt: skip
def test_only_a_known_category_narrows_a_body(categories: Any, classes: tuple[str, ...], fhir_words: FhirWords) -> None:
    """A record of an unknown category is written only by who may write each class of its type."""
    meaning = ask(fhir_words, "POST", "/fhir/Observation", observation(category=categories))

    assert (meaning.answer, set(meaning.classes)) == ("decide", set(classes))


SUBJECTS: dict[str, tuple[Any, str]] = {
    "a patient": (P1, ""),
    "with its type": ({"reference": "Patient/p1", "type": "Patient"}, ""),
    "by the own address": ({"reference": "https://our.kz/fhir/Patient/p1"}, ""),
    "of another server": ({"reference": "https://their.kz/fhir/Patient/p1"}, "foreign_reference"),
    "beside the own address": ({"reference": "https://our.kz/fhirx/Patient/p1"}, "foreign_reference"),
    "another type said": ({"reference": "Patient/p1", "type": "Group"}, "unreadable_reference"),
    "a group": ({"reference": "Group/g1"}, "not_a_patient"),
    "a search": ({"reference": "Patient?identifier=1"}, "conditional_reference"),
    "a version": ({"reference": "Patient/p1/_history/1"}, "unreadable_reference"),
    "contained": ({"reference": "#p1"}, "foreign_reference"),
    "of no Bundle": ({"reference": "urn:uuid:1"}, "unresolved_reference"),
    "a list": ([P1, {"reference": "Patient/p2"}], "patients_disagree"),
    "a text": ("Patient/p1", "unreadable_reference"),
    "nothing": (None, "unreadable_reference"),
    "a name": ({"display": "p1"}, "unreadable_reference"),
    "a root": ({"reference": "/Patient/p1"}, "foreign_reference"),
    "dots": ({"reference": "Patient/../p1"}, "unreadable_reference"),
}  # fmt: skip


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_subject_of_a_body_is_one_patient_of_ours_or_refused(name: str, fhir_words: FhirWords) -> None:
    """A reference that the server would resolve is resolved by nobody before it."""
    subject, reason = SUBJECTS[name]
    ours = msgspec.structs.replace(fhir_words, servers=(Server("/fhir", ("https://our.kz/fhir",)),))

    meaning = ask(ours, "POST", "/fhir/Observation", observation(subject=subject))

    assert (meaning.answer, meaning.reason) == (("deny", reason) if reason else ("decide", ""))
    assert meaning.patients == (() if reason else ("p1",))


def test_a_subject_known_by_its_identifier_is_looked_up(fhir_words: FhirWords) -> None:
    """With a system it can be looked up; without one it cannot."""
    known = {"identifier": {"system": "urn:kz:iin", "value": "1"}}

    found = ask(fhir_words, "POST", "/fhir/Observation", observation(subject=known))

    assert (found.answer, found.lookups) == ("defer", (Lookup("Patient", "urn:kz:iin|1", "identifier"),))
    assert (
        ask(fhir_words, "POST", "/fhir/Observation", observation(subject={"identifier": {"value": "1"}})).answer
        == "deny"
    )


def test_elements_of_both_releases_name_the_patient_and_must_agree(fhir_words: FhirWords) -> None:
    """R4's `patient` and R5's `subject`; participants who are no patients do not count, two patients disagree."""
    sequence = {"resourceType": "MolecularSequence"}
    doctor, other = {"actor": {"reference": "Practitioner/d1"}}, {"actor": {"reference": "Patient/p2"}}
    visit = {"resourceType": "Appointment", "participant": [doctor, {"actor": P1}]}

    assert ask(fhir_words, "POST", "/fhir/MolecularSequence", sequence | {"patient": P1}).patients == ("p1",)
    assert ask(fhir_words, "POST", "/fhir/MolecularSequence", sequence | {"subject": P1}).patients == ("p1",)
    both = sequence | {"subject": P1, "patient": {"reference": "Patient/p2"}}
    assert ask(fhir_words, "POST", "/fhir/MolecularSequence", both).reason == "patients_disagree"
    assert ask(fhir_words, "POST", "/fhir/Appointment", visit).patients == ("p1",)
    assert (
        ask(fhir_words, "POST", "/fhir/Appointment", visit | {"participant": [{"actor": P1}, other]}).reason
        == "patients_disagree"
    )
    assert ask(fhir_words, "POST", "/fhir/Appointment", visit | {"participant": [doctor]}).reason == "no_patient"


BODIES: dict[str, tuple[bytes, str]] = {
    "a key twice": (b'{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"subject":{"reference":"Patient/p2"}}', "unreadable_body"),
    "a key twice, escaped": (b'{"resourceType":"Observation","s\\u0075bject":{},"subject":{}}', "unreadable_body"),
    "a key in two cases": (b'{"resourceType":"Observation","subject":{},"Subject":{}}', "unreadable_body"),
    "no number": (b'{"resourceType":"Observation","a":NaN}', "unreadable_body"),
    "a byte order mark": (b'\xef\xbb\xbf{"resourceType":"Observation"}', "unreadable_body"),
    "UTF-16": ('{"resourceType":"Observation"}'.encode("utf-16"), "unreadable_body"),
    "half a letter": (b'{"resourceType":"Observation","a":"\\ud800"}', "unreadable_body"),
    "a null byte": (b'{"resourceType":"Observation","a":"\\u0000"}', "unreadable_body"),
    "another type": (b'{"resourceType":"Condition"}', "body_of_another_type"),
    "a list": (b"[]", "body_of_another_type"),
    "a text": (b'"Observation"', "unreadable_body"),
    "nothing": (b"", "body_needed"),
    "a search inside": (b'{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"encounter":{"reference":"Encounter?x=1"}}', "conditional_reference"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_two_readers_could_read_differently_is_refused(name: str, fhir_words: FhirWords) -> None:
    """Doubled keys, other encodings and half letters never reach a decision."""
    body, reason = BODIES[name]

    assert read_request(FhirRequest("POST", b"/fhir/Observation", (), body), fhir_words).reason == reason


def test_what_depends_on_a_body_that_nobody_saw_is_refused(fhir_words: FhirWords) -> None:
    """Creating, changing, patching, Bundles, forms: without the body there is no decision."""
    for method, url in (("POST", "/fhir/Observation"), ("PUT", "/fhir/Observation/o1"), ("PUT", "/fhir/Patient/p1"),
                        ("PATCH", "/fhir/Observation/o1"), ("POST", "/fhir"), ("POST", "/fhir/Observation/_search")):  # fmt: skip
        assert (ask(fhir_words, method, url).answer, ask(fhir_words, method, url).reason) == ("deny", "body_needed")
    xml = (("content-type", "application/fhir+xml"),)
    assert read_request(FhirRequest("POST", b"/fhir/Observation", xml, b"<a/>"), fhir_words).reason == "body_format"
    assert read_request(FhirRequest("GET", b"/fhir/Patient/p1", (), b"{}"), fhir_words).reason == "unexpected_body"


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip", "identity", ""])
def test_a_body_in_a_coding_is_refused(coding: str, fhir_words: FhirWords) -> None:
    """The same bytes are JSON to whoever reads them as they are, and another record to whoever decodes them."""
    asked = ask(fhir_words, "POST", "/fhir/Observation", observation(), content_encoding=coding)

    assert (asked.answer, asked.reason) == ("deny", "body_format")
    assert ask(fhir_words, "POST", "/fhir/Observation", observation()).answer == "decide"
    assert ask(fhir_words, "GET", "/fhir/Patient/p1", content_encoding=coding).answer == "decide"


@pytest.mark.parametrize(("method", "url"), [("POST", "/fhir/Binary"), ("PUT", "/fhir/Binary/b1")])
def test_a_binary_that_is_not_said_to_be_fhir_is_refused(method: str, url: str, fhir_words: FhirWords) -> None:
    """To a server it is the document itself (FHIR, Binary): whose it is does not stand in it, nor its labels."""
    binary = {"resourceType": "Binary", "id": "b1", "contentType": "text/plain", "securityContext": P1, "data": "YQ=="}

    assert ask(fhir_words, method, url, binary, content_type="application/fhir+json").patients == ("p1",)
    for kind in ({"content_type": "application/json"}, {"content_type": "application/json-patch+json"}, {}):
        assert ask(fhir_words, method, url, binary, **kind).reason == "body_format"
    assert ask(fhir_words, "POST", "/fhir/Observation", observation(), content_type="application/json").reason == ""


@pytest.mark.parametrize(
    "name",
    ["x-cascade", "x-fhir-dsid", "x-fhir-tenant-id", "x-meta-snapshot-mode", "x-provenance", "x-request-partition-ids",
     "x-rewrite-history", "x-security-context"],
)  # fmt: skip
def test_what_a_header_makes_of_a_request_is_refused(name: str, fhir_words: FhirWords) -> None:
    """Another tenant's record of the same id, another patient's document, more than was asked about."""
    assert ask(fhir_words, "GET", "/fhir/Patient/p1", x_request_id="1").reason == ""
    assert ask(fhir_words, "GET", "/fhir/Patient/p1", **{name.upper(): "2"}).reason == "refused_header"


def test_a_change_is_of_the_record_that_it_names_and_the_stored_version_counts(fhir_words: FhirWords) -> None:
    """The id of the body is the path's; the version in store is judged as well."""
    sound = ask(fhir_words, "PUT", "/fhir/Observation/o1", observation(id="o1"))

    assert (sound.answer, sound.stored, sound.filtered) == ("decide", Lookup("Observation", "o1"), True)
    assert ask(fhir_words, "PUT", "/fhir/Observation/o1", observation(id="o2")).reason == "body_of_another_record"
    assert ask(fhir_words, "PUT", "/fhir/Observation/o1", observation()).reason == "body_of_another_record"
    assert ask(fhir_words, "PUT", "/fhir/Patient/p1", {"resourceType": "Patient", "id": "p1"}).patients == ("p1",)
    assert ask(fhir_words, "PUT", "/fhir/Patient/p1", {"resourceType": "Patient", "id": "p2"}).answer == "deny"
    assert ask(fhir_words, "DELETE", "/fhir/Observation/o1").answer == "defer"
    assert ask(fhir_words, "DELETE", "/fhir/Patient/p1").answer == "decide"
    for method in ("PUT", "PATCH", "DELETE"):
        assert (
            ask(fhir_words, method, "/fhir/Observation", observation() if method != "DELETE" else None).reason
            == "conditional"
        )
        assert (
            ask(
                fhir_words, method, "/fhir/Observation?patient=p1", observation() if method != "DELETE" else None
            ).reason
            == "conditional"
        )
    assert ask(fhir_words, "POST", "/fhir/Observation/o1", observation()).reason == "invalid"


PATCHES: dict[str, tuple[Any, str]] = {
    "a status": ([{"op": "replace", "path": "/status", "value": "final"}], ""),
    "a category": ([{"op": "add", "path": "/category/-", "value": {}}], ""),
    "the subject": ([{"op": "replace", "path": "/subject/reference", "value": "Patient/p2"}], "patient_changes"),
    "the subject, in another case": ([{"op": "replace", "path": "/Subject", "value": {}}], "patient_changes"),
    "moved over the subject": ([{"op": "move", "from": "/focus", "path": "/subject"}], "patient_changes"),
    "the subject moved away": ([{"op": "move", "from": "/subject", "path": "/focus"}], "patient_changes"),
    "a label": ([{"op": "add", "path": "/meta/security/-", "value": {}}], "labels_change"),
    "all of meta": ([{"op": "remove", "path": "/meta"}], "labels_change"),
    "the whole": ([{"op": "replace", "path": "", "value": {}}], "identity_changes"),
    "the id": ([{"op": "replace", "path": "/id", "value": "o2"}], "identity_changes"),
    "a question": ([{"op": "test", "path": "/status", "value": "final"}], "unreadable_patch"),
    "a pointer without a root": ([{"op": "replace", "path": "subject", "value": {}}], "unreadable_patch"),
    "a search": ([{"op": "replace", "path": "/encounter/reference", "value": "Encounter?x=1"}], "conditional_reference"),
    "a search in an element": ([{"op": "add", "path": "/encounter", "value": {"reference": "Encounter?x=1"}}], "conditional_reference"),
    "FHIRPath": ({"resourceType": "Parameters"}, "unreadable_patch"),
    "nothing": ([], "unreadable_patch"),
}  # fmt: skip


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_moves_no_record_and_takes_no_label(name: str, fhir_words: FhirWords) -> None:
    """What else it changes waits for whose the record is."""
    steps, reason = PATCHES[name]

    meaning = ask(fhir_words, "PATCH", "/fhir/Observation/o1", steps)

    assert (meaning.answer, meaning.reason) == (("deny", reason) if reason else ("defer", "lookup"))
    assert meaning.whose == "lookup"


def test_a_conditional_create_asks_a_search_of_the_same_patient(fhir_words: FhirWords) -> None:
    """Its answer tells whether something is there: it needs the right to search, and to name the patient."""
    sound = ask(fhir_words, "POST", "/fhir/Observation", observation(), If_None_Exist="patient=p1&identifier=1")

    assert (sound.answer, sound.also) == ("decide", ("search",))
    for criteria in ("identifier=1", "patient=p2", "patient=p1&_has:x=1", "patient=p1#", "patient=p1,p2", ""):
        assert (
            ask(fhir_words, "POST", "/fhir/Observation", observation(), If_None_Exist=criteria).reason == "conditional"
        )


def test_consents_are_managed_by_their_service_and_entries_of_the_journal_by_nobody(fhir_words: FhirWords) -> None:
    """A consent's change is diverted; the journal is read by its own action, and written by no user."""
    given = ask(fhir_words, "POST", "/fhir/Consent", {"resourceType": "Consent", "patient": P1})

    assert (given.action, given.diverted, given.answer) == ("consent_manage", True, "decide")
    assert ask(fhir_words, "GET", "/fhir/Consent?patient=p1").diverted is False
    assert ask(fhir_words, "GET", "/fhir/AuditEvent?patient=p1").action == "journal_read"
    for method, url in (
        ("POST", "/fhir/AuditEvent"),
        ("PUT", "/fhir/AuditEvent/a1"),
        ("DELETE", "/fhir/AuditEvent/a1"),
        ("POST", "/fhir/Provenance"),
    ):
        assert (
            ask(fhir_words, method, url, None if method == "DELETE" else {"resourceType": "AuditEvent"}).answer
            == "deny"
        )


def test_what_leaves_counts_or_hides_labels_is_rewritten(fhir_words: FhirWords) -> None:
    """Totals and short summaries are taken out; elements get what a filter needs."""
    meaning = ask(fhir_words, "GET", "/fhir/Observation?patient=p1&_total=accurate&_summary=text&_elements=code,status")

    assert meaning.strip == ("_summary", "_total")
    assert meaning.put == (("_elements", "category,code,meta,status,subject"),)
    assert ask(fhir_words, "GET", "/fhir/Observation?patient=p1&_summary=data").strip == ()


def test_elements_cannot_hide_labels_that_stand_beside_meta(fhir_words: FhirWords) -> None:
    """Where a type says its labels beside `meta`, that element is asked for too; of everything, what any type needs."""
    for url, elements in {
        "/fhir/DocumentReference?patient=p1&_elements=content": "content,meta,securityLabel,subject",
        "/fhir/Composition?patient=p1&_elements=title": "confidentiality,meta,subject,title",
    }.items():
        assert ask(fhir_words, "GET", url).put == (("_elements", elements),)
    ((_, elements),) = ask(fhir_words, "GET", "/fhir?patient=p1&_elements=code").put
    assert {"meta", "subject", "patient", "category", "securityLabel", "confidentiality"} <= {*elements.split(",")}


def test_a_batch_refuses_entries_and_a_transaction_itself(fhir_words: FhirWords) -> None:
    """One bad entry is refused in a batch, and refuses a transaction; each is judged as the request that it is."""
    good, bad = (
        {"request": {"method": "GET", "url": "Condition?patient=p1"}},
        {"request": {"method": "GET", "url": "Basic/1"}},
    )

    some = ask(fhir_words, "POST", "/fhir", transaction(good, bad, kind="batch"))

    assert (some.answer, [entry.answer for entry in some.entries]) == ("decide", ["decide", "deny"])
    assert ask(fhir_words, "POST", "/fhir", transaction(bad, kind="batch")).answer == "deny"
    assert ask(fhir_words, "POST", "/fhir", transaction(good, bad)).reason == "entry_refused"
    assert ask(fhir_words, "POST", "/fhir", transaction(good)).answer == "decide"


ENTRIES: dict[str, Any] = {
    "another server": {"request": {"method": "GET", "url": "http://host/fhir/Condition?patient=p1"}},
    "a root": {"request": {"method": "GET", "url": "/Condition?patient=p1"}},
    "dots": {"request": {"method": "GET", "url": "Patient/../Condition?patient=p1"}},
    "a Bundle inside": {"request": {"method": "POST", "url": ""}, "resource": transaction({"request": {"method": "GET", "url": "Condition?patient=p1"}})},
    "no request": {"resource": observation()},
    "an odd header": {"request": {"method": "GET", "url": "Condition?patient=p1", "method_": "DELETE"}},
    "an odd method": {"request": {"method": "get", "url": "Condition?patient=p1"}},
    "a body to read": {"request": {"method": "GET", "url": "Condition?patient=p1"}, "resource": observation()},
    "a body to search by": {"request": {"method": "POST", "url": "Observation/_search?patient=p1"}, "resource": {"resourceType": "Parameters", "parameter": [{"name": "patient", "valueString": "p2"}]}},
    "no body to write": {"request": {"method": "POST", "url": "Observation"}},
    "a foreign name": post(observation(), fullUrl="http://host/fhir/Observation/o1"),
    "a name that would replace another": post({"resourceType": "Patient"}, fullUrl="https://our.kz/fhir/Patient/p1"),
    "an id of its own": post(observation(id="o1")),
    "created only if there is none": post(observation(), request={"method": "POST", "url": "Observation", "ifNoneExist": "identifier=1"}),
    "a urn of nobody": post(observation(subject={"reference": "urn:uuid:9"})),
    "text": "GET Patient/p1",
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_could_mean_another_is_refused(name: str, fhir_words: FhirWords) -> None:
    """In a transaction each of them refuses the whole."""
    assert ask(fhir_words, "POST", "/fhir", transaction(ENTRIES[name])).answer == "deny"


def test_urns_of_a_transaction_name_its_own_patients(fhir_words: FhirWords) -> None:
    """A new patient is known by the urn, a written one by the id; one that may turn out to be another is not known."""
    of_urn = post(observation(subject={"reference": "urn:uuid:1"}))
    new = post({"resourceType": "Patient"}, fullUrl="urn:uuid:1")
    written = {
        "fullUrl": "urn:uuid:1",
        "request": {"method": "PUT", "url": "Patient/p1"},
        "resource": {"resourceType": "Patient", "id": "p1"},
    }
    perhaps = post(
        {"resourceType": "Patient"},
        fullUrl="urn:uuid:1",
        request={"method": "POST", "url": "Patient", "ifNoneExist": "identifier=s|1"},
    )
    no_patient = post({"resourceType": "Condition", "subject": P1}, fullUrl="urn:uuid:1")

    assert ask(fhir_words, "POST", "/fhir", transaction(of_urn, new)).patients == ("urn:uuid:1",)
    assert ask(fhir_words, "POST", "/fhir", transaction(of_urn, written)).patients == ("p1",)
    ours = msgspec.structs.replace(fhir_words, servers=(Server("/fhir", ("https://our.kz/fhir",)),))
    for full, answer in (
        ("Patient/p1", "decide"),
        ("https://our.kz/fhir/Patient/p1", "decide"),
        ("https://our.kz/fhir/Patient/p2", "deny"),
        (1, "deny"),
    ):
        assert ask(ours, "POST", "/fhir", transaction(written | {"fullUrl": full})).answer == answer
    for other in (perhaps, no_patient):
        assert ask(fhir_words, "POST", "/fhir", transaction(of_urn, other)).answer == "deny"
    assert ask(fhir_words, "POST", "/fhir", transaction(of_urn, new, new)).reason == "entry_name"
    assert ask(fhir_words, "POST", "/fhir", transaction(of_urn, new, kind="batch")).entries[0].answer == "deny"
    assert ask(fhir_words, "POST", "/fhir/Patient", {"resourceType": "Patient"}).patients == (NEW_PATIENT,)


def test_bundles_of_other_kinds_and_sizes_are_refused(fhir_words: FhirWords) -> None:
    """Messages, collections and stored results mean nothing here; neither does an empty or endless one."""
    one = {"request": {"method": "GET", "url": "Condition?patient=p1"}}

    for kind in ("message", "collection", "searchset", "history", "batch-response", "", None):
        assert ask(fhir_words, "POST", "/fhir", transaction(one) | {"type": kind}).reason == "bundle_type"
    assert ask(fhir_words, "POST", "/fhir", transaction()).reason == "entries"
    assert ask(fhir_words, "POST", "/fhir", transaction(*[one] * 101)).reason == "entries"
    assert ask(fhir_words, "POST", "/fhir", transaction(*[one] * 100)).answer == "decide"
    assert ask(fhir_words, "POST", "/fhir/Bundle", transaction(one)).answer == "deny"


def test_a_document_is_of_one_patient(fhir_words: FhirWords) -> None:
    """Its Composition comes first and says whose it is; a part of somebody else, or that means nothing, refuses it."""

    def document(*parts: dict[str, Any]) -> Meaning:
        return ask(fhir_words, "POST", "/fhir", transaction(*({"resource": part} for part in parts), kind="document"))

    letter = {"resourceType": "Composition", "subject": P1}
    doctor, patient = {"resourceType": "Practitioner"}, {"resourceType": "Patient", "id": "p1"}

    assert document(letter, observation(), doctor, patient).answer == "decide"
    for parts in ((observation(), letter), (letter, observation(subject={"reference": "Patient/p2"})), (letter, {"resourceType": "Basic"}),
                  (letter, patient | {"id": "p2"}), ({"resourceType": "Composition"},), (letter, {"resourceType": "PaymentNotice"})):  # fmt: skip
        assert document(*parts).answer == "deny"


def test_a_document_bears_the_labels_of_its_parts(fhir_words: FhirWords) -> None:
    """Every label, and the highest confidentiality, of the Bundle, the Composition and any part; a label that is none refuses it."""

    def marked(*codes: Any, name: str = "ActCode") -> dict[str, Any]:
        system = f"http://terminology.hl7.org/CodeSystem/v3-{name}"
        return {"meta": {"security": [{"system": system, "code": code} for code in codes]}}

    def document(whole: dict[str, Any], *parts: dict[str, Any]) -> Meaning:
        sent = transaction(*({"resource": part} for part in parts), kind="document")
        return ask(fhir_words, "POST", "/fhir", sent | whole)

    letter = {"resourceType": "Composition", "subject": P1}
    found = document(
        marked("HIV"), letter | {"confidentiality": "R"}, observation() | marked("PSY", "HIV"),
        observation() | marked("V", name="Confidentiality"), {"resourceType": "Practitioner"},
    )  # fmt: skip

    assert (found.answer, found.labels, found.conf) == ("decide", ("HIV", "PSY"), "V")
    assert document({}, letter | marked("ETH"), observation()).labels == ("SUD",)
    plain = document({}, letter, observation())
    assert (plain.answer, plain.labels, plain.conf) == ("decide", (), None)
    assert document({}, letter, observation() | marked(None)).answer == "deny"
    many = [observation() | marked(f"L{number}") for number in range(33)]
    assert document({}, letter, *many).answer == "deny"


def test_categories_that_hold_at_once_narrow_nothing(fhir_words: FhirWords) -> None:
    """Where a pack lets `category` be repeated, both are meant at once: a record may have further ones."""
    repeat = msgspec.structs.replace(fhir_words.parameters, repeat=frozenset({"category"}))
    lenient = msgspec.structs.replace(fhir_words, parameters=repeat)

    meaning = ask(lenient, "GET", "/fhir/Observation?patient=p1&category=laboratory&category=imaging")

    assert (meaning.answer, set(meaning.classes)) == ("decide", set(OBSERVATIONS))


def test_an_operation_by_post_brings_no_body_that_could_say_otherwise(fhir_words: FhirWords) -> None:
    """Where a pack lets an operation be posted, its body is empty, and was seen to be."""
    posted = tuple(msgspec.structs.replace(each, methods=("GET", "POST")) for each in fhir_words.operations)
    lenient = msgspec.structs.replace(fhir_words, operations=posted)

    def everything(body: bytes | None) -> Meaning:
        return read_request(FhirRequest("POST", b"/fhir/Patient/p1/$everything", (), body), lenient)

    assert everything(b"").answer == "decide"
    assert (everything(None).reason, everything(b"{}").reason) == ("body_needed", "unexpected_body")


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "", "POST"])
def test_other_methods_mean_nothing(method: str, fhir_words: FhirWords) -> None:
    """A method that FHIR gives no meaning there is refused."""
    assert ask(fhir_words, method, "/fhir/Patient/p1").answer == "deny"
