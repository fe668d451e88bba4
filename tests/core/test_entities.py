"""The request joined with the facts: always to the narrower side, and what is absent is absent."""

from typing import Any

import msgspec
import pytest

from ruqsat.core.case import Case
from ruqsat.core.facts import (
    Episode,
    Facts,
    KnownRecord,
    Organisation,
    PatientFacts,
    Position,
    RecordStatus,
    Relationship,
    Representation,
    SubjectFacts,
)
from ruqsat.core.instant import Now
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    Inspection,
    LegalRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)

NOW = Now(100, 110)


def case(
    who: SubjectFacts | None = None,
    whom: PatientFacts | None = None,
    recipient: SubjectFacts | None = None,
    **said: Any,
) -> Case:
    """Return a case in which only this is known and said (``said`` by entity)."""
    request = EvaluationRequest(
        Subject("user", "s1", said.get("sub")),
        Action("read"),
        Resource("Record", "o1", said.get("res")),
        said.get("ctx"),
    )
    return Case.of(request, Facts(who, whom, Position("test", 0), True, (), recipient), NOW)


def read(entity: Any) -> dict[str, Any]:
    """Return every attribute of an entity that is not internal."""
    names = set(type(entity).__struct_fields__)  # type: ignore[attr-defined]
    names |= {n for kind in type(entity).__mro__ for n, each in vars(kind).items() if isinstance(each, property)}
    return {name: getattr(entity, name) for name in names if name[0] != "_"}


@pytest.mark.parametrize("whom", [None, PatientFacts("p1")])
def test_of_nothing_nothing_is_known(whom: PatientFacts | None) -> None:
    """A request that says nothing of somebody unknown: every attribute can be read, and none holds."""
    empty = case(whom=whom)
    stated = {"id": "o1", "type": "Record"}
    known = {"id": "s1", "type": "user"}
    moment = {"now": NOW, "facts": empty.facts, "consents_known": True}

    assert {name: value for name, value in read(empty.sub).items() if value} == known
    assert {name: value for name, value in read(empty.res).items() if value} == stated
    assert {name: value for name, value in read(empty.ctx).items() if value} == moment
    assert (empty.res.labels, empty.ctx.purpose, empty.sub.roles) == (None, (), ())


def test_of_somebody_unknown_nothing_is_under_way() -> None:
    """Not even at the subject's own organisation."""
    ctx = case(SubjectFacts("s1", org="h1")).ctx

    assert (ctx.own_episode, ctx.care_consent, ctx.emergency, ctx.relationship) == (False, False, False, None)


def test_roles_are_those_that_both_sides_name() -> None:
    """What only one side knows of is not held; a side that says nothing narrows nothing."""
    sides = [
        (("nurse", "physician"), ("nurse", "patient")), (None, ("nurse",)), (("nurse",), None), (None, None),
        ((), ("nurse",)), (("nurse",), ()),
    ]  # fmt: skip

    roles = [case(SubjectFacts("s1", roles=known), sub=SubjectProperties(said)).sub.roles for said, known in sides]

    assert roles == [("nurse",), ("nurse",), ("nurse",), (), (), ()]


def test_the_employer_is_the_registers_and_a_caller_cannot_name_another() -> None:
    """Whoever names another works for nobody, nor for one that the register does not have (design, 2.1)."""
    hospital = Organisation("provider_medical", True)
    sides = [("h1", "h1"), (None, "h1"), ("h1", None), ("h2", "h1"), (None, None)]

    subs = [
        case(SubjectFacts("s1", org=known, organisation=hospital), sub=SubjectProperties(None, said)).sub
        for said, known in sides
    ]

    assert [each.org for each in subs] == ["h1", "h1", None, None, None]
    assert [each.org_category for each in subs] == ["provider_medical"] * 2 + [None] * 3
    assert [each.org_undertakes for each in subs] == [True, True, False, False, False]


def test_what_the_store_knows_of_a_record_only_narrows() -> None:
    """Labels of both, the higher level, a block of either, no class if the two differ."""

    def joined(said: ResourceProperties, known: RecordStatus) -> Any:
        known = msgspec.structs.replace(known, type="Record")
        return case(whom=PatientFacts("p1", records=(known,)), res=said).res

    said = ResourceProperties("p1", "labs", ("HIV",), "R")
    other = joined(said, RecordStatus("o2", "documents", ("PSY",), "V", True, True))
    same = joined(said, RecordStatus("o1", "labs", ("PSY",), "V", True, True))
    less = joined(msgspec.structs.replace(said, blocked=True), RecordStatus("o1", "documents", None, "N"))
    bare = joined(ResourceProperties("p1", "labs"), RecordStatus("o1", "labs", ("PSY",), "R"))

    assert (other.labels, other.conf, other.blocked, other.destroyed) == (("HIV",), "R", False, False)
    assert ({*same.labels}, same.conf, same.blocked, same.destroyed) == ({"HIV", "PSY"}, "V", True, True)
    assert (less.labels, less.conf, less.blocked, less.data_class) == (("HIV",), "R", True, None)
    assert (bare.labels, bare.conf, same.data_class) == (("PSY",), "R", "labs")
    assert joined(said, RecordStatus("o1", "labs")).conf == "R"


def test_only_a_records_own_organisation_says_that_it_has_no_labels() -> None:
    """Another's `[]` leaves unknown labels unknown; another's labels alone open nothing; stated ones are added to."""

    def joined(org: str | None, said: tuple[str, ...] | None, *known: str, author: str | None = "h1") -> Any:
        record = RecordStatus("o1", "labs", known, org=org, type="Record")
        whom = PatientFacts("p1", records=(record,))
        return case(whom=whom, res=ResourceProperties("p1", "labs", said, author_org=author)).res

    assert [joined(org, None).labels for org in ("h1", "h2", None)] == [(), None, ()]
    assert joined("h2", None, author=None).labels == ()  # nobody says whose it is: whoever reported it is believed
    assert (joined("h2", None, "PSY").labels, joined("h2", None, "PSY").data_class) == (None, None)
    assert (joined("h1", None, "PSY").labels, joined("h1", None, "PSY").data_class) == (("PSY",), "labs")
    assert joined("h2", ()).labels == () and joined("h2", ("HIV",)).labels == ("HIV",)
    assert {*joined("h2", ("HIV",), "PSY").labels} == {"HIV", "PSY"}


def test_a_record_is_known_by_its_type_and_id() -> None:
    """Another type's record says nothing of it; one of no type, which may be of any, adds and never clears."""

    def joined(*known: RecordStatus, labels: tuple[str, ...] | None = None) -> Any:
        whom = PatientFacts("p1", records=known)
        return case(whom=whom, res=ResourceProperties("p1", "labs", labels)).res

    def seen(res: Any) -> Any:
        return res.labels, res.conf, res.blocked, res.destroyed, res.data_class

    unknown, other = joined(), RecordStatus("o1", "documents", (), "V", True, True, type="Condition")
    assert seen(joined(other)) == seen(unknown) == (None, None, False, False, "labs")
    clean, vague = RecordStatus("o1", "labs", (), type="Record"), RecordStatus("o1", "labs", ())
    assert seen(joined(other, clean)) == seen(joined(clean, other)) == ((), None, False, False, "labs")
    assert joined(vague).labels is None
    assert (
        joined(msgspec.structs.replace(vague, labels=("HIV",))).data_class is None
    )  # these, and nobody knows which besides
    for both in (
        (clean, msgspec.structs.replace(vague, labels=("HIV",))),
        (msgspec.structs.replace(vague, labels=("HIV",)), clean),
    ):
        assert seen(joined(*both)) == (("HIV",), None, False, False, "labs")
    assert joined(msgspec.structs.replace(vague, labels=("HIV",)), labels=("PSY",)).labels in (
        ("HIV", "PSY"),
        ("PSY", "HIV"),
    )
    bad = RecordStatus("o1", "documents", None, "V", True, True)
    assert seen(joined(bad, clean)) == ((), "V", True, True, "labs")
    assert joined(bad).data_class is None


RECIPIENT = SubjectFacts("h2", roles=(), organisation=Organisation("provider_medical", True))


@pytest.mark.parametrize("row", [
    ("h2", RECIPIENT, "provider_medical", True), ("h3", RECIPIENT, None, False), (None, RECIPIENT, None, False),
    ("h2", None, None, False), ("h2", msgspec.structs.replace(RECIPIENT, active=False), None, False),
    ("h2", msgspec.structs.replace(RECIPIENT, organisation=None), None, False),
    ("h2", msgspec.structs.replace(RECIPIENT, organisation=Organisation("provider_medical")), "provider_medical", False),
])  # fmt: skip
def test_a_recipient_is_what_the_directory_lists(row: Any) -> None:
    """By the name that the request states, and while it is active."""
    named, entry, category, undertakes = row
    ctx = case(recipient=entry, ctx=RequestContext(recipient=named)).ctx

    assert (ctx.recipient_category, ctx.recipient_undertakes) == (category, undertakes)


@pytest.mark.parametrize("row", [
    (None, None, None), ("", "", None), (" ", None, None), ("", " ", None), ("a", " ", "a"), (" ", "b", "b"), ("a", "b", "b"),
])  # fmt: skip
def test_a_blank_is_no_written_ground(row: Any) -> None:
    """The patient is told, wherever nothing is written."""
    inside, beside, ground = row
    legal = LegalRequest("r1", "court", "p1", defer_notice=inside)

    assert case(ctx=RequestContext(legal_request=legal, defer_notice=beside)).ctx.defer_notice == ground


@pytest.mark.parametrize("row", [
    (None, False), (False, False), (True, True), ("", False), (" ", False), ("false", False), (" False", False),
    ("letter of 24 November", True),
])  # fmt: skip
def test_a_demand_is_said(row: Any) -> None:
    """By a yes or by words; blanks are none."""
    said, is_demanded = row

    assert case(ctx=RequestContext(subject_demand=said)).ctx.subject_demand is is_demanded


def test_what_is_stated_of_a_request_is_read() -> None:
    """The number of an act, the reference of a request, and either place of a written ground."""
    legal = LegalRequest("r1", "court", "p1", defer_notice="inside")
    ctx = case(ctx=RequestContext(legal_request=legal, inspection=Inspection("a1"))).ctx
    beside = case(ctx=RequestContext(legal_request=legal, defer_notice="beside")).ctx

    assert (ctx.legal_request, ctx.inspection, ctx.defer_notice, beside.defer_notice) == (
        "r1",
        "a1",
        "inside",
        "beside",
    )


@pytest.mark.parametrize("row", [
    ({}, True), ({"verified": False}, True), ({"end": 101}, True), ({"end": 100}, False), ({"revoked_at": 101}, True),
    ({"revoked_at": 100}, False), ({"end": 100, "revoked_at": 200}, False), ({"end": 200, "revoked_at": 100}, False),
])  # fmt: skip
def test_a_patient_is_represented_while_a_power_may_live(row: Any) -> None:
    """Until every power has surely ended: Code 273(4)(1) asks for nobody who could speak."""
    changes, represented = row
    power = Representation("r1", "s2", "parent", **({"verified": True} | changes))

    assert case(whom=PatientFacts("p1", representations=(power,))).ctx.represented is represented


@pytest.mark.parametrize("row", [
    (Episode("e1", "h1", "emergency", 100, 111), True, True, False),
    (Episode("e1", "h1", "urgent", 90, None, True), True, True, True),
    (Episode("e1", "h1", "planned", 90, None, True), False, True, True),
    (Episode("e1", "h2", "emergency", 90, None, True), False, False, False),
    (Episode("e1", "h1", "emergency", 101, None, True), False, False, False),
    (Episode("e1", "h1", "emergency", 90, 110, True), False, False, False),
])  # fmt: skip
def test_an_episode_counts_while_it_is_surely_open_at_the_own_organisation(row: Any) -> None:
    """Order §4, Code 60(1); somebody without an employer has none."""
    episode, emergency, own, consented = row
    whom = PatientFacts("p1", episodes=(episode,))
    ctx = case(SubjectFacts("s1", org="h1"), whom).ctx
    nobody = case(SubjectFacts("s1"), msgspec.structs.replace(whom, episodes=(Episode("e1", None, "urgent", 0),))).ctx  # type: ignore[arg-type]

    assert (ctx.emergency, ctx.own_episode, ctx.care_consent) == (emergency, own, consented)
    assert (nobody.emergency, nobody.own_episode) == (False, False)


@pytest.mark.parametrize("row", [
    ({"subject": "s1"}, True), ({"org": "h1"}, True), ({"subject": "s1", "org": "h1"}, True), ({}, False),
    ({"subject": "s2", "org": "h1"}, False), ({"subject": "s1", "org": "h2"}, False),
    ({"subject": "s1", "start": 100}, True), ({"subject": "s1", "start": 101}, False),
    ({"subject": "s1", "end": 111}, True), ({"subject": "s1", "end": 110}, False),
])  # fmt: skip
def test_a_tie_of_care_counts_for_whom_it_names_while_it_surely_holds(row: Any) -> None:
    """A tie that names nobody is nobody's."""
    stated, holds = row
    whom = PatientFacts("p1", relationships=(Relationship("referral", **stated),))

    assert case(SubjectFacts("s1", org="h1"), whom).ctx.relationship == ("referral" if holds else None)


@pytest.mark.parametrize("row", [(99, True), (110, True), (111, False), (None, False)])
def test_a_patient_may_be_dead_by_now(row: Any) -> None:
    """From the first moment that may have come."""
    instant, deceased = row

    assert case(whom=PatientFacts("p1", deceased_at=instant)).ctx.deceased is deceased


def test_what_was_put_together_of_a_record_is_of_that_record_alone() -> None:
    """Whatever was asked before: each type has its own, what names no type counts for all, and another id is unknown."""
    lab = RecordStatus("o1", "labs", ("HIV",), type="Observation")
    illness = RecordStatus("o1", "conditions", None, "R", blocked=True, type="Condition")
    some = RecordStatus("o1", "labs", ("PSY",), "N", destroyed=True)
    patient = PatientFacts("p1", records=(lab, illness, some))

    for kind in ("Specimen", "Observation", "Condition", "Specimen", "Observation"):
        assert patient.known_record(kind, "o1") == msgspec.structs.replace(patient).known_record(kind, "o1")
    assert [patient.known_record(kind, "o1") for kind in ("Observation", "Condition", "Specimen")] == [
        KnownRecord((lab,), frozenset({"HIV", "PSY"}), frozenset({"labs"}), "N", False, True),
        KnownRecord((illness,), frozenset({"PSY"}), frozenset({"conditions"}), "R", True, True),
        KnownRecord((), frozenset({"PSY"}), frozenset({"labs"}), "N", False, True),
    ]
    assert patient.known_record("Observation", "o2") is None
