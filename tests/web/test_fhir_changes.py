"""Changes of records at a FHIR server, at the forward-auth listener: body, stored record and signature must agree."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from ruqsat.core.decision import Decision, deny
from ruqsat.core.fhir.meaning import Authors
from ruqsat.core.fhir.records import Seen
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable
from ruqsat.service.answer import Answer
from ruqsat.service.origin import Origin
from ruqsat.service.verifications import Verifications
from ruqsat.web.forward_auth import Aids, ForwardAuth
from ruqsat.web.forward_auth.signed import Signatures
from ruqsat.web.protocol import TARGET
from tests.fhir_ground import observation
from tests.signatures.records import DOCTOR, signature, verifier
from tests.web.test_forward_auth import ALLOW, VERIFIER, Scripted, routes, token
from tests.web.test_forward_auth_lookups import Looks
from tests.web.test_signed_records import now

__all__ = ["routes"]

TRUSTING = verifier()
O1 = "/fhir/Observation/o1"
SEEN = Seen("Observation", "o1", "p-dana", ("labs",))
BODY = json.dumps(observation("o1", valueString="7.1")).encode()
STATUS = {"op": "replace", "path": "/status", "value": "final"}
NAMING = [
    {"op": "test", "path": "/resourceType", "value": "Observation"},
    {"op": "test", "path": "/id", "value": "o1"},
    {"op": "test", "path": "/subject/reference", "value": "Patient/p-dana"},
]
PATCH = json.dumps([*NAMING, STATUS]).encode()


class ByAction(Scripted):
    """Decides each action as it is told to."""

    def __init__(self, **outcomes: Decision) -> None:
        super().__init__(ALLOW)
        self.outcomes = outcomes

    async def decide(self, request: EvaluationRequest, origin: Origin, policy_set: object = None) -> Answer:
        """Answer by the action."""
        self.outcome = self.outcomes.get(request.action.name, ALLOW)
        return await super().decide(request, origin, policy_set)


class Change:
    """What came of one change."""

    def __init__(
        self, routes: RouteTable, method: str = "PUT", body: bytes = BODY, target: str = O1, *, signed: bytes | None = None,
        seen: Any = SEEN, point: Scripted | None = None, shown: bytes = b"false", content_type: bytes = b"application/fhir+json",
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:  # fmt: skip
        self.point, self.looks = point or Scripted(ALLOW), Looks(seen)
        lookups: Any = {"/fhir": self.looks}
        signatures = Signatures(Verifications(TRUSTING, 20), now)
        app = ForwardAuth(self.point, VERIFIER, routes, aids=Aids(signatures, lookups))
        headers = [(b"host", b"records"), (b"authorization", token(iin=DOCTOR)), (b"content-type", content_type),
                   (b"x-envoy-auth-partial-body", shown), *more]  # fmt: skip
        if signed is not None:
            headers.append((b"x-ruqsat-signature", signature(signed).encode()))
        arriving, sent = [{"type": "http.request", "body": body}], list[dict[str, Any]]()

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return arriving.pop(0)

        scope = {"type": "http", "method": method, TARGET: f"/authz/envoy{target}".encode(), "headers": headers}
        asyncio.run(app(scope, receive, send))
        self.status = sent[0]["status"]
        self.actions = [asked.action.name for asked in self.point.asked]
        self.refused = next(iter(self.point.refusals), None)


@pytest.mark.parametrize(("method", "body"), [("PUT", BODY), ("PATCH", PATCH)])
def test_a_signed_change_is_asked_about_as_the_stored_record(method: str, body: bytes, routes: RouteTable) -> None:
    """As a reading and as a change of that patient's record; the signature carries out the duty of the change alone."""
    change = Change(routes, method, body, signed=body, content_type=b"application/json-patch+json" if method == "PATCH" else b"application/fhir+json")  # fmt: skip

    assert (change.status, change.actions, change.looks.fresh) == (200, ["read", "update"], True)
    assert [origin.capabilities for origin in change.point.origins] == [frozenset(), frozenset({"require_eds"})]
    assert [origin.signature is not None for origin in change.point.origins] == [False, True]
    properties = change.point.asked[1].resource.properties
    assert properties is not None
    assert (properties.patient, properties.data_class, change.point.asked[1].resource.id) == ("p-dana", "labs", "o1")
    assert change.looks.forgotten == [("Observation", "o1")]


def test_who_may_change_and_not_read_or_read_and_not_change_does_neither(routes: RouteTable) -> None:
    """The answer to a change is the record."""
    unread = Change(routes, signed=BODY, point=ByAction(read=deny("deny.consent.none")))
    unchanged = Change(routes, signed=BODY, point=ByAction(update=deny("deny.role.action")))

    assert (unread.status, unread.actions, unread.looks.forgotten) == (403, ["read"], [])
    assert (unchanged.status, unchanged.actions, unchanged.looks.forgotten) == (403, ["read", "update"], [])
    # A reading that never was stands in nobody's log as one that was.
    assert (unread.point.taken_back, unchanged.point.taken_back) == ([], ["read"])


def test_a_change_whose_reading_is_not_permitted_any_more_is_denied(routes: RouteTable) -> None:
    """A consent that was withdrawn between the two questions; both permits are taken back."""

    class Withdrawn(ByAction):
        def may_send(self, request: EvaluationRequest, answer: Answer) -> bool:
            return request.action.name != "read"

    change = Change(routes, signed=BODY, point=Withdrawn())

    assert (change.status, change.actions, change.point.taken_back) == (403, ["read", "update"], ["read", "update"])
    assert change.looks.forgotten == []


@pytest.mark.parametrize(("seen", "body", "reason"), [
    (replace(SEEN, patient="p-marat"), BODY, "fhir.patients_disagree"),
    (SEEN, json.dumps(observation("o1", "p-marat")).encode(), "fhir.patients_disagree"),
    (replace(SEEN, labels=("HIV",)), BODY, "fhir.labels_change"), (replace(SEEN, conf="R"), BODY, "fhir.labels_change"),
    (None, BODY, "fhir.unresolved"), (SEEN, json.dumps(observation("o2")).encode(), "fhir.body_of_another_record"),
    (SEEN, BODY[:-1] + b', "subject": {"reference": "Patient/p-marat"}}', "fhir.unreadable_body"),
])  # fmt: skip
def test_what_disagrees_with_the_stored_record_is_refused(
    seen: Any, body: bytes, reason: str, routes: RouteTable
) -> None:
    """Another patient's, now or afterwards, a label that would vanish, no such record; nobody is even asked."""
    for signed in (None, body):
        change = Change(routes, body=body, seen=seen, signed=signed)
        assert (change.status, change.actions, change.refused) == (403, [], reason)


def test_a_signed_patch_is_good_for_no_other_record(routes: RouteTable) -> None:
    """Without tests it could be carried to any; with them it is denied at another address or of another patient."""
    bare = json.dumps([STATUS]).encode()
    assert Change(routes, "PATCH", bare, signed=bare).refused == "signature.target_unnamed"
    assert Change(routes, "PATCH", PATCH, "/fhir/Observation/o2", signed=PATCH).refused == "fhir.body_of_another_record"
    assert Change(routes, "PATCH", PATCH, "/fhir/Condition/o1", signed=PATCH).refused == "fhir.body_of_another_record"
    other = replace(SEEN, patient="p-marat")
    assert Change(routes, "PATCH", PATCH, signed=PATCH, seen=other).refused == "fhir.patients_disagree"
    assert Change(routes, "PATCH", bare).actions == ["read", "update"]
    moves = json.dumps([{"op": "replace", "path": "/subject/reference", "value": "Patient/p-marat"}]).encode()
    assert Change(routes, "PATCH", moves, signed=moves).refused == "fhir.patient_changes"


def test_without_a_signature_no_duty_is_carried_out(routes: RouteTable) -> None:
    """Body and record are read all the same, and the rules decide; a body that is not shown whole is refused."""
    plain = Change(routes)
    assert (plain.status, plain.actions) == (200, ["read", "update"])
    assert all(origin.capabilities == frozenset() for origin in plain.point.origins)
    for shown in (b"true", b"", b"false, false"):
        assert Change(routes, shown=shown).refused == "fhir.body_needed"
    for content_type in (b"application/fhir+xml", b"text/plain", b"application/json; charset=utf-16"):
        assert Change(routes, content_type=content_type).refused == "fhir.body_needed"
    assert Change(routes, body=BODY + b" " * 65_536).refused == "fhir.body_needed"


@pytest.mark.parametrize("name", [b"content-encoding", b"content_encoding"])
def test_what_comes_in_a_coding_is_not_read(name: bytes, routes: RouteTable) -> None:
    """The server would read other bytes; a signature is of those that came, whichever they say they are."""
    plain, signed = [Change(routes, signed=each, more=((name, b"br"),)) for each in (None, BODY)]

    assert (plain.status, plain.refused, plain.actions) == (403, "fhir.body_needed", [])
    assert (signed.status, signed.refused, signed.actions) == (403, "signature.body_format", [])
    assert Change(routes, "GET", b"", more=((name, b"br"),)).status == 200


def test_a_new_patient_is_nobody_to_ask_about(routes: RouteTable) -> None:
    """Nobody's facts decide about somebody whom no record knows yet."""
    body = json.dumps({"resourceType": "Patient", "name": [{"text": "A"}]}).encode()
    change = Change(routes, "POST", body, "/fhir/Patient")

    assert (change.status, change.actions) == (403, [])


def test_who_wrote_the_record_is_said_of_it(routes: RouteTable) -> None:
    """As the server says, where that is sure: rules about it work behind a proxy."""
    seen = replace(SEEN, authors=Authors("dr", "h1"))
    asked = Change(routes, "GET", b"", seen=seen).point.asked[0].resource.properties
    assert asked is not None
    assert (asked.author, asked.author_org) == ("dr", "h1")
    labelled = Change(routes, "GET", b"", seen=replace(seen, labels=("HIV",))).point.asked[0].resource.properties
    assert labelled is not None
    assert (labelled.author, labelled.author_org, labelled.atomic) == ("dr", "h1", True)
