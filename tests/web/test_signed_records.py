"""Records that come signed, at the forward-auth listener: the duty is carried out by a signature that holds, or not at all."""

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ruqsat.core.decision import deny
from ruqsat.core.routes import RouteTable
from ruqsat.core.signature_finding import Finding
from ruqsat.service.signatures import SignatureVerifier
from ruqsat.service.verifications import Verifications
from ruqsat.signatures.cms_verifier import CmsVerifier
from ruqsat.signatures.plug_in import PlugIn
from ruqsat.signatures.trust import RevocationLists, Trust
from ruqsat.web.forward_auth import Aids, ForwardAuth
from ruqsat.web.forward_auth.signed import Signatures
from ruqsat.web.protocol import TARGET
from tests.signatures.bad import gost
from tests.signatures.fake_gost import Fake
from tests.signatures.pki import crl, organisation, person, rsa_key
from tests.signatures.records import (
    ALWAYS,
    DOCTOR,
    NURSE,
    RECORD,
    medic,
    provenance,
    root,
    signature,
    verifier,
)
from tests.web.test_forward_auth import ALLOW, VERIFIER, Scripted, routes, token, truth

__all__ = ["routes"]

TARGET_PATH = "/patients/p-dana/labs/o1"
LAB = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
TRUSTING = verifier()
Lines = list[tuple[bytes, bytes]]


class Sent(NamedTuple):
    """What came of one write: the status, whether it was decided, with which duties, and the refusal if there was one."""

    status: int
    duties: frozenset[str] | None
    refused: str | None
    point: Scripted


def now() -> int:
    """The moment."""
    return time_ns() // 1000


def write(
    routes: RouteTable, *lines: tuple[str, str], body: bytes = RECORD, method: str = "PUT", target: str = TARGET_PATH,
    by: SignatureVerifier | None = TRUSTING, claims: dict[str, Any] | None = None, partial: tuple[str, ...] = ("false",),
    pieces: int = 1, content_type: tuple[str, ...] = ("application/json",), seconds: float = 20, dialect: str = "envoy",
    cut: bool = False, outcome: Any = ALLOW,
) -> Sent:  # fmt: skip
    """Send a write as Envoy hands it on."""
    point = Scripted(outcome)
    verifications = None if by is None else Verifications(by, seconds)
    app = ForwardAuth(point, VERIFIER, routes, aids=Aids(Signatures(verifications, now)))
    headers: Lines = [(b"host", b"records"), (b"authorization", token(**{"iin": DOCTOR} | (claims or {})))]
    headers += [(b"content-type", each.encode()) for each in content_type]
    headers += [(b"x-envoy-auth-partial-body", each.encode()) for each in partial]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in lines]
    at = f"/authz/envoy{target}"
    if dialect != "envoy":
        at, headers = f"/authz/{dialect}", [*headers, *truth(dialect, method=method, target=target)]
    step = -(-len(body) // pieces) or 1
    parts = [body[place : place + step] for place in range(0, len(body), step)] or [b""]
    arriving = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) or cut}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return arriving.pop(0) if arriving else {"type": "http.disconnect"}

    asyncio.run(app({"type": "http", "method": method, TARGET: at.encode(), "headers": headers}, receive, send))
    duties = point.origins[0].capabilities if point.asked else None
    return Sent(sent[0]["status"], duties, next(iter(point.refusals), None), point)


def line(*args: Any, **parts: Any) -> tuple[str, str]:
    """Return the header of a signature."""
    return "x-ruqsat-signature", signature(*args, **parts)


def refusal(*args: Any, **parts: Any) -> str | None:
    """Return why a write was refused before it was decided, which it must have been."""
    sent = write(*args, **parts)
    assert (sent.status, sent.duties, sent.point.asked) == (403, None, [])
    return sent.refused


def test_a_signature_of_the_sender_carries_out_the_duty_and_is_told_to_the_journal(routes: RouteTable) -> None:
    """The one duty and no other; what is kept of it names neither the person nor the record."""
    sent = write(routes, line())
    kept = sent.point.origins[0].signature

    assert (sent.status, sent.duties, sent.refused) == (200, frozenset({"require_eds"}), None)
    assert kept is not None
    assert kept.serial == f"{medic().certificate.serial_number:x}"
    assert (len(kept.sha256), DOCTOR in repr(sent.point.origins[0])) == (64, False)
    assert (sent.point.asked[0].action.name, sent.point.asked[0].resource.id) == ("update", "o1")


def test_a_signature_decides_nothing(routes: RouteTable) -> None:
    """A signed record that the policy denies is denied."""
    sent = write(routes, line(), outcome=deny("deny.consent.none"))

    assert (sent.status, sent.duties) == (403, frozenset({"require_eds"}))


def test_without_a_signature_nothing_is_carried_out(routes: RouteTable) -> None:
    """The write is decided as before; its body is not even read."""
    assert write(routes).duties == frozenset()
    assert write(routes, ("x-provenance", provenance())).duties == frozenset()


def test_what_is_no_write_is_not_helped_by_a_signature(routes: RouteTable) -> None:
    """Reading and destroying, and what is posted to be looked up, whatever header comes with it."""
    for method in ("GET", "HEAD", "DELETE"):
        assert write(routes, line(), method=method).duties == frozenset()
    for by in (TRUSTING, None):
        assert write(routes, line(), method="POST", target="/fhir/CodeSystem/$lookup", by=by).duties == frozenset()


def test_a_provenance_of_fhir_carries_the_signature_too(routes: RouteTable) -> None:
    """The same signature in the header that FHIR defines."""
    assert write(routes, ("x-provenance", provenance(signature()))).duties == frozenset({"require_eds"})


@pytest.mark.parametrize(("lines", "reason"), [
    ([line(), line()], "header_twice"),
    ([line(), ("x-provenance", provenance(signature()))], "header_twice"),
    ([line(), ("x-provenance", provenance())], "header_twice"),
    ([("x-provenance", provenance(signature(), signature()))], "several_signers"),
    ([("x-provenance", "{}")], "malformed"), ([("x-provenance", f'{{"signature": [{{"data": "{signature()}"}}]}}')], "malformed"),
    ([("x-provenance", provenance(signature()).replace("Provenance", "Consent"))], "malformed"),
    ([("x-provenance", provenance(signature()).replace('"signature"', '"signature": [], "signature"'))], "malformed"),
    ([("x-provenance", provenance(signature())[:-1] + ', "target": [{"reference": "Observation/o9"}]}')], "malformed"),
    ([("x-provenance", provenance("7"))], "malformed"),
    ([("x-provenance", '{"resourceType": "Provenance", "signature": [{}]}')], "malformed"),
    ([("x-provenance", "\xff")], "malformed"),
    ([("x-ruqsat-signature", "")], "malformed"),
    ([("x-ruqsat-signature", "7")], "malformed"),
    ([("x-ruqsat-signature", signature() + "\n")], "malformed"),
    ([("x-ruqsat-signature", f"{signature()},{signature()}")], "malformed"),
    ([("x-ruqsat-signature", b64encode(b"\x30" * 200_000).decode())], "too_large"),
    ([line(content=RECORD)], "not_detached"),
])  # fmt: skip
def test_a_header_that_holds_no_one_signature_is_refused(
    lines: list[tuple[str, str]], reason: str, routes: RouteTable
) -> None:
    """Two of them, parts of another form, what is no base64, what is far too large."""
    assert refusal(routes, *lines) == f"signature.{reason}"


@pytest.mark.parametrize(("parts", "reason"), [
    ({"by": medic(NURSE)}, "wrong_signer"),
    ({"by": organisation()}, "not_trusted"),
    ({"by": person(DOCTOR)}, "not_trusted"),
    ({"by": person("880808100204", issuer=root(), key=rsa_key("nobody"), **ALWAYS)}, "wrong_signer"),
    ({"by": person(DOCTOR, issuer=root(), key=rsa_key("old"),
                   **ALWAYS | {"until": datetime.now(UTC) - timedelta(seconds=60)})}, "certificate_expired"),
    ({"by": person(DOCTOR, issuer=root(), key=rsa_key("new"),
                   **ALWAYS | {"since": datetime.now(UTC) + timedelta(hours=9)})}, "certificate_not_yet_valid"),
    ({"ago": 305}, "too_old"), ({"ago": -330}, "in_future"), ({"document": RECORD + b"\n"}, "content_differs"),
])  # fmt: skip
def test_a_signature_that_does_not_hold_is_refused(parts: dict[str, Any], reason: str, routes: RouteTable) -> None:
    """Somebody else's, one that leads to no root, past or to come, old, of other bytes."""
    assert refusal(routes, line(**parts)) == f"signature.{reason}"


def test_a_revoked_certificate_signs_nothing(routes: RouteTable, tmp_path: Path) -> None:
    """By the lists of its authority; without a current one nobody knows, and nothing passes."""

    def with_list(*serials: int, until: timedelta = timedelta(days=1)) -> CmsVerifier:
        day = datetime.now(UTC).replace(microsecond=0)
        made = crl(root(), *serials, since=day - timedelta(days=2), until=day + until)
        (tmp_path / "list.crl").write_bytes(made.public_bytes(Encoding.DER))
        return CmsVerifier(Trust((root().certificate,), ()), RevocationLists(tmp_path))

    own = medic().certificate.serial_number
    assert write(routes, line(), by=with_list(own + 1)).status == 200
    assert refusal(routes, line(), by=with_list(own)) == "signature.revoked"
    assert refusal(routes, line(), by=with_list(until=-timedelta(days=1))) == "signature.revocation_unknown"


@pytest.mark.parametrize(("claims", "reason"), [
    ({"iin": None}, "signer_unknown"), ({"iin": ""}, "signer_unknown"), ({"iin": "880808100204"}, "signer_unknown"),
    ({"iin": NURSE}, "wrong_signer"), ({"subject_type": "service"}, "signer_unknown"),
    ({"subject_type": "patient"}, "signer_unknown"),
])  # fmt: skip
def test_nobody_signs_for_somebody_else(claims: dict[str, Any], reason: str, routes: RouteTable) -> None:
    """The number is the token's; who has none, and a machine or a patient with one, signs no record."""
    assert refusal(routes, line(), claims=claims) == f"signature.{reason}"


def test_a_number_that_is_no_text_makes_the_token_none(routes: RouteTable) -> None:
    """An `iin` claim that is no text makes the token no token, as a wrong type of any claim does."""
    assert write(routes, line(), claims={"iin": 880808100203}).status == 401


def test_without_a_trust_store_no_signature_counts(routes: RouteTable) -> None:
    """A signature that nobody verifies is none, however good it is; an empty store trusts nobody."""
    assert refusal(routes, line(), by=None) == "signature.not_verified_here"
    assert refusal(routes, line(), by=CmsVerifier(Trust())) == "signature.not_trusted"


def gost_line() -> tuple[str, str]:
    """Return the header of a signature under GOST."""
    return "x-ruqsat-signature", b64encode(gost()).decode()


def gost_finding(iin: str = DOCTOR, ago: int = 1) -> Finding:
    """Return what a plug-in would find of it."""
    at = now() - ago * 1_000_000
    return Finding(iin=iin, serial="7", signed_at=at, valid_from=at - 9, valid_to=at + 9, algorithm="GOST", digest="ab")


def with_plug_in(found: Callable[[], Any]) -> CmsVerifier:
    """Return a verifier with a plug-in that finds this."""
    return CmsVerifier(Trust((root().certificate,), ()), plug_in=PlugIn(Fake(found)))


def test_a_signature_under_gost_needs_a_plug_in(routes: RouteTable) -> None:
    """What the plug-in verifies counts, for its signer and its moment; without one, or one that fails, nothing does."""
    assert write(routes, gost_line(), by=with_plug_in(gost_finding)).status == 200
    assert refusal(routes, gost_line()) == "signature.algorithm_not_supported"
    assert refusal(routes, gost_line(), by=with_plug_in(lambda: gost_finding(NURSE))) == "signature.wrong_signer"
    assert refusal(routes, gost_line(), by=with_plug_in(lambda: gost_finding(ago=999))) == "signature.too_old"
    assert refusal(routes, gost_line(), by=with_plug_in(lambda: 1 / 0)) == "signature.verifier_failed"


def test_a_plug_in_that_hangs_is_a_denial_in_time(routes: RouteTable) -> None:
    """The proxy hears it before it gives up by itself."""
    door = threading.Event()
    try:
        hanging = with_plug_in(lambda: (door.wait(15), gost_finding())[1])
        assert refusal(routes, gost_line(), by=hanging, seconds=0.05) == "signature.verifier_failed"
    finally:
        door.set()


@pytest.mark.parametrize(("partial", "reason"), [
    ((), "body_unseen"), (("true",), "body_partial"), (("false", "false"), "body_partial"),
    (("false", "true"), "body_partial"), (("False",), "body_partial"), (("",), "body_partial"),
])  # fmt: skip
def test_a_body_that_is_not_surely_whole_is_not_judged(
    partial: tuple[str, ...], reason: str, routes: RouteTable
) -> None:
    """Envoy says once that it is; everything else is a part, or none."""
    assert refusal(routes, line(), partial=partial) == f"signature.{reason}"


def test_a_body_is_read_in_pieces_and_to_its_end(routes: RouteTable) -> None:
    """However it comes; what ends early, is empty or too large is refused."""
    largest = RECORD[:-1] + b" " * (65_535 - len(RECORD)) + b"}"

    assert write(routes, line(), pieces=9).status == 200
    assert write(routes, line(largest), body=largest, pieces=5).status == 200
    assert refusal(routes, line(), cut=True) == "signature.body_partial"
    assert refusal(routes, line(b""), body=b"") == "signature.body_unseen"
    assert refusal(routes, line(largest + b" "), body=largest + b" ", pieces=3) == "signature.body_too_large"


@pytest.mark.parametrize(("content_type", "passes"), [
    (("application/json",), True), (("application/fhir+json; charset=utf-8",), True), (('Application/JSON;charset="UTF-8"',), True),
    ((), False), (("application/json", "application/json"), False), (("text/json",), False), (("",), False),
    (("application/json; charset=utf-16",), False), (("application/x-www-form-urlencoded",), False),
    (("application/json, text/plain",), False), (("application/merge-patch+json",), False),
])  # fmt: skip
def test_a_body_is_json_by_what_it_says(content_type: tuple[str, ...], passes: bool, routes: RouteTable) -> None:
    """Another format is read in another way by whoever stands behind."""
    if passes:
        assert write(routes, line(), content_type=content_type).status == 200
    else:
        assert refusal(routes, line(), content_type=content_type) == "signature.body_format"


@pytest.mark.parametrize("dialect", ["nginx", "caddy", "traefik"])
def test_a_proxy_that_shows_no_body_lets_no_signature_count(dialect: str, routes: RouteTable) -> None:
    """Even if something came along: nobody knows that it is what is forwarded."""
    assert refusal(routes, line(), dialect=dialect) == "signature.body_unseen"


@pytest.mark.parametrize(("method", "target", "changes", "passes"), [
    ("PUT", TARGET_PATH, {}, True), ("PUT", "/patients/p-marat/labs/o1", {}, False),
    ("PUT", "/patients/p-dana/vitals/o1", {}, False), ("PUT", "/patients/p-dana/labs/o2", {}, False),
    ("PUT", TARGET_PATH, {"patient": None}, False), ("PUT", TARGET_PATH, {"id": None}, False),
    ("POST", "/patients/p-dana/labs", {}, True), ("POST", "/patients/p-dana/labs", {"id": None}, True),
    ("POST", "/patients/p-marat/labs", {"id": None}, False), ("POST", "/patients/p-dana/labs", {"class": None}, False),
    ("PATCH", TARGET_PATH, {}, True), ("PATCH", TARGET_PATH, {"id": None}, False),
])  # fmt: skip
def test_what_is_signed_says_itself_of_which_record_it_is(
    method: str, target: str, changes: dict[str, Any], passes: bool, routes: RouteTable
) -> None:
    """A signature cannot be carried to another patient, class or record."""
    body = json.dumps({name: value for name, value in (json.loads(RECORD) | changes).items() if value}).encode()
    if passes:
        assert write(routes, line(body), body=body, method=method, target=target).status == 200
    else:
        asked = {"body": body, "method": method, "target": target}
        assert refusal(routes, line(body), **asked) == "signature.target_unnamed"


def test_a_signed_resource_of_no_category_needs_a_permit_for_each_class_that_it_may_be(routes: RouteTable) -> None:
    """All of them or none: they are parts of one question that cannot be cut."""
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient/p-dana"}}
    body = json.dumps(resource).encode()
    sent = write(routes, line(body), body=body, method="POST", target="/fhir/Observation")
    properties = sent.point.asked[0].resource.properties

    assert (sent.status, properties.patient, properties.data_class, properties.atomic) == (200, "p-dana", None, True)
    assert {each["class"] for each in properties.parts} > {"labs", "vitals"}


@pytest.mark.parametrize(("resource", "reason"), [
    ({}, None), ({"subject": None}, "fhir.no_patient"),
    ({"subject": {"reference": "Patient?identifier=1"}}, "fhir.conditional_reference"),
    ({"subject": {"identifier": {"system": "urn:kz:iin", "value": "1"}}}, "fhir.lookup"),
    ({"resourceType": "Condition"}, "fhir.body_of_another_type"),
])  # fmt: skip
def test_a_resource_of_fhir_is_read_by_its_signed_body(
    resource: dict[str, Any], reason: str | None, routes: RouteTable
) -> None:
    """Its own type, class and patient; what needs a look-up or several questions is refused as it is without a body."""
    good = {"resourceType": "Observation", "category": [LAB], "subject": {"reference": "Patient/p-dana"}}
    body = json.dumps({name: value for name, value in (good | resource).items() if value}).encode()
    asked: dict[str, Any] = {"body": body, "method": "POST", "target": "/fhir/Observation"}
    if reason is not None:
        assert refusal(routes, line(body), **asked) == reason
        return
    sent = write(routes, line(body), **asked)
    properties = sent.point.asked[0].resource.properties

    assert (sent.status, sent.duties) == (200, frozenset({"require_eds"}))
    assert properties is not None
    assert (properties.patient, properties.data_class) == ("p-dana", "labs")
    assert write(routes, **asked).duties == frozenset()
    assert refusal(routes, partial=(), **asked) == "fhir.body_needed"
    assert refusal(routes, line(body), ("if-none-exist", "identifier=1"), **asked).startswith("fhir.")  # type: ignore[union-attr]


@pytest.mark.parametrize(("method", "target", "kind"), [
    ("PUT", "/fhir/Observation/o1", "Observation"), ("POST", "/fhir", "Bundle"), ("POST", "/fhir/Patient", "Patient"),
    ("POST", "/fhir/Organization", "Organization"), ("POST", "/fhir/Consent", "Consent"),
])  # fmt: skip
def test_what_a_proxy_cannot_ask_about_of_fhir_it_cannot_with_a_signature(
    method: str, target: str, kind: str, routes: RouteTable
) -> None:
    """The version in store, several requests at once, a new patient, what is nobody's, documents of their own service."""
    resource = {"resourceType": kind, "id": "o1", "category": [LAB], "subject": {"reference": "Patient/p-dana"}}
    if kind == "Bundle":
        request = {"method": "POST", "url": "Condition"}
        resource = {"resourceType": kind, "type": "batch", "entry": [{"request": request, "resource": resource}]}
    body = json.dumps(resource).encode()

    refused = refusal(routes, line(body), body=body, method=method, target=target)
    assert refused is not None
    assert refused.startswith("fhir.") or refused == "signature.target_unnamed"
