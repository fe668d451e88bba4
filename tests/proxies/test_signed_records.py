"""Records that come signed, through the real proxies: who shows the body lets them in, nobody else does."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.proxies.conftest import Site
from tests.proxies.front import KINDS, running_front, running_records
from tests.proxies.raw import Connection, Reply, ask, bearer, request
from tests.sidecar import Sidecar, running_sidecar
from tests.signatures.records import DOCTOR, NURSE, RECORD, medic, provenance, root, signature

O1 = "/patients/p-dana/labs/o1"
ENVOYS = ("envoy", "envoy-grpc")
SHOWS_BODIES = (*ENVOYS, "haproxy")


def showing_bodies(shipped: str) -> str:
    """Uncomment the line by which Envoy shows bodies; HAProxy's is none."""
    assert "# with_request_body:" in shipped or "  option http-buffer-request\n" in shipped
    return shipped.replace("# with_request_body:", "with_request_body:")


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that trusts the root of the tests."""
    folder = tmp_path_factory.mktemp("trusting")
    (folder / "root.pem").write_bytes(root().certificate.public_bytes(Encoding.PEM))
    with running_sidecar(folder, grpc_listen="127.0.0.1:0", signature_trust=str(folder / "root.pem")) as sidecar:
        yield sidecar


@pytest.fixture(scope="module", params=SHOWS_BODIES)
def showing(
    request: pytest.FixtureRequest, trusting: Sidecar, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A proxy with its line on bodies."""
    kind = str(request.param)
    with (
        running_records() as records,
        running_front(
            kind, tmp_path_factory.mktemp(kind), trusting.ports[KINDS[kind].asks], records.server_port,
            showing_bodies,
        ) as front,
    ):  # fmt: skip
        yield Site(front, trusting, records)


def put(
    site: Site, *headers: str, body: bytes = RECORD, target: str = O1, person: str = "dr_aida", method: str = "PUT",
    sent: bytes | None = None, **claims: Any,
) -> Reply:  # fmt: skip
    """Send a record; its sender's token says its number."""
    site.seen.clear()
    who = bearer(site.sidecar.token(person, **{"iin": DOCTOR} | claims))
    usual = (who, "Content-Type: application/json", f"Content-Length: {len(body)}")
    return ask(site.front.port, method, target, *usual, *headers, body=body if sent is None else sent)


def signed(*args: Any, **parts: Any) -> str:
    """Return the header line of a signature."""
    return f"X-Ruqsat-Signature: {signature(*args, **parts)}"


def test_a_record_signed_by_its_sender_is_entered(showing: Site) -> None:
    """In either header; what reaches the server is what was signed, with the signature to keep."""
    for line in (signed(), f"X-Provenance: {provenance(signature())}"):
        reply = put(showing, line)

        assert (reply.status, len(showing.seen)) == (200, 1)
        assert showing.seen[0]["body"].encode("latin-1") == RECORD
        name, _, value = line.partition(": ")
        assert showing.seen[0]["headers"][name.lower()] == value


@pytest.mark.parametrize("wrong", [
    {}, {"by": NURSE}, {"document": RECORD + b" "}, {"ago": 400}, {"ago": -400},
])  # fmt: skip
def test_a_record_that_is_not_signed_so_is_not(showing: Site, wrong: dict[str, Any]) -> None:
    """No signature, somebody else's, one of another text, an old one, one to come: nothing reaches the server."""
    if "by" in wrong:
        wrong = {"by": medic(wrong["by"])}
    reply = put(showing, *([signed(**wrong)] if wrong else []))

    assert (reply.status, showing.seen) == (403, [])


def test_each_changed_byte_of_the_record_is_noticed(showing: Site) -> None:
    """One bit in a byte at a time, anywhere."""
    line = signed()
    for place in range(0, len(RECORD), 7):
        other = bytearray(RECORD)
        other[place] ^= 1

        assert (put(showing, line, body=bytes(other)).status, showing.seen) == (403, [])


def test_a_signed_record_is_no_record_of_anybody_else(showing: Site) -> None:
    """The same bytes at another address, of another patient, class or record; and by another person who may enter there."""
    for target in ("/patients/p-marat/labs/o1", "/patients/p-dana/documents/o1", "/patients/p-dana/labs/o9"):
        assert (put(showing, signed(), target=target).status, showing.seen) == (403, [])
    assert (put(showing, signed(), iin=NURSE).status, showing.seen) == (403, [])
    nobody = json.dumps({"value": "7.1"}).encode()
    assert (put(showing, signed(nobody), body=nobody).status, showing.seen) == (403, [])


@pytest.mark.parametrize("claims", [
    {"iin": None}, {"iin": "880808100204"}, {"iin": NURSE}, {"subject_type": "service"}, {"roles": ["trainee"]},
    {"roles": ["patient"], "subject_type": "patient", "purpose_of_use": "PATRQT"},
], ids=str)  # fmt: skip
def test_a_good_signature_helps_nobody_who_may_not_enter(showing: Site, claims: dict[str, Any]) -> None:
    """Whose token says no number or another one, a machine, a student, a patient."""
    assert (put(showing, signed(), **claims).status, showing.seen) == (403, [])


def test_two_signatures_are_none(showing: Site) -> None:
    """Twice the same header, one of each, two in one Provenance: which one would be kept?"""
    for lines in (
        (signed(), signed()), (signed(), f"X-Provenance: {provenance(signature())}"),
        (f"X-Provenance: {provenance(signature(), signature())}",),
    ):  # fmt: skip
        assert (put(showing, *lines).status, showing.seen) == (403, [])


def test_a_body_that_is_too_large_is_refused(showing: Site) -> None:
    """By the proxy beyond what it holds back, by the sidecar at its limit; within it the record is entered."""
    if showing.front.kind == "haproxy":
        told = [put(showing, signed(body), body=body).status for body in map(padded, (9_000, 17_000, 65_535))]
        assert told == [200, 403, 403]
        return

    told = [put(showing, signed(body), body=body).status for body in map(padded, (65_535, 65_536, 65_537))]
    assert told == [200, 403, 413]


def test_a_client_cannot_say_that_its_body_is_whole(showing: Site) -> None:
    """The proxy's word stands, whatever the client says."""
    for name, part, whole in (("x-envoy-auth-partial-body", "true", "false"), ("x-ruqsat-body", "part", "whole")):
        assert put(showing, signed(), f"{name}: {part}").status == 200
        assert (put(showing, signed(RECORD[:9]), f"{name}: {whole}").status, showing.seen) == (403, [])


def test_a_record_in_pieces_is_the_whole_or_none(showing: Site) -> None:
    """Chunked, Envoy shows all of it; HAProxy cannot say that it does, so it does not pass."""
    who = bearer(showing.sidecar.token("dr_aida", iin=DOCTOR))
    lines = (who, "Content-Type: application/json", signed(), "Transfer-Encoding: chunked")
    showing.seen.clear()
    with Connection(showing.front.port) as connection:
        connection.send(request("PUT", O1, *lines, body=b"%x\r\n%b\r\n" % (9, RECORD[:9])))
        time.sleep(0.2)
        connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(RECORD) - 9, RECORD[9:]))
        reply = connection.read("PUT")

    assert (reply.status, len(showing.seen)) == ((403, 0) if showing.front.kind == "haproxy" else (200, 1))


def test_a_record_that_comes_slowly_is_the_whole_or_none(showing: Site) -> None:
    """The first part alone would be signed well; what is judged is all that is announced."""
    showing.seen.clear()
    assert (put_after(showing, RECORD, b'{"x":1}').status, showing.seen) == (403, [])


def padded(size: int) -> bytes:
    """Return the record with blanks, so many bytes in all."""
    return RECORD[:-1] + b" " * (size - len(RECORD)) + b"}"


@contextmanager
def showing_parts(kind: str, sidecar: Sidecar, folder: Path, most: int) -> Iterator[Site]:
    """Run Envoy told to show the first *most* bytes of a body that is larger."""

    def plant(shipped: str) -> str:
        changed = showing_bodies(shipped).replace("allow_partial_message: false", "allow_partial_message: true")
        return changed.replace("max_request_bytes: 65536", f"max_request_bytes: {most}")

    with (
        running_records() as records,
        running_front(kind, folder, sidecar.ports[KINDS[kind].asks], records.server_port, plant) as front,
    ):
        yield Site(front, sidecar, records)


def put_after(site: Site, first: bytes, rest: bytes) -> Reply:
    """Send a record of which the *first* part is signed, and the *rest* once that has arrived."""
    who = bearer(site.sidecar.token("dr_aida", iin=DOCTOR))
    lines = (who, "Content-Type: application/json", signed(first), f"Content-Length: {len(first + rest)}")
    with Connection(site.front.port) as connection:
        connection.send(request("PUT", O1, *lines, body=first))
        time.sleep(0.3)
        with suppress(ConnectionError):
            connection.send(rest)
        return connection.read("PUT")


@pytest.mark.parametrize("kind", ENVOYS)
def test_a_part_that_envoy_calls_one_is_not_judged(kind: str, trusting: Sidecar, tmp_path: Path) -> None:
    """Signed by itself, as good as the whole, and the rest would have come unsigned."""
    with showing_parts(kind, trusting, tmp_path, len(RECORD)) as site:
        assert put(site, signed(RECORD), body=RECORD[:-1] + b',"value":"9"}').status == 403
        assert put(site, signed(RECORD), body=RECORD + b'{"x":1}').status == 403
        assert site.seen == []


@pytest.mark.parametrize("kind", ENVOYS)
def test_a_part_that_envoy_calls_the_whole_is_one_byte_too_large(kind: str, trusting: Sidecar, tmp_path: Path) -> None:
    """Envoy calls a buffer whole that is exactly full; with the shipped size the sidecar does not believe it."""
    with showing_parts(kind, trusting, tmp_path, 65_536) as site:
        assert (put_after(site, padded(65_536), b'{"x":1}').status, site.seen) == (403, [])


def test_with_another_size_envoys_word_is_not_enough(trusting: Sidecar, tmp_path: Path) -> None:
    """Why `allow_partial_message` stays false: what was not signed gets in where both are changed."""
    with showing_parts("envoy", trusting, tmp_path, len(RECORD)) as site:
        assert put_after(site, RECORD, b'{"x":1}').status == 200
        assert site.seen[0]["body"].encode() != RECORD


def test_nothing_is_verified_where_nothing_is_trusted(kind: str, site: Site) -> None:
    """The shipped files, a sidecar without a trust store: a signed record is refused as one that is not."""
    assert (put(site, signed()).status, site.seen) == (403, [])
    assert (put(site).status, site.seen) == (403, [])


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"haproxy"}))
def test_a_proxy_that_shows_no_body_lets_no_signed_record_in(kind: str, trusting: Sidecar, tmp_path: Path) -> None:
    """By the shipped files, Envoy's among them, whatever the signature; reading goes on."""
    with (
        running_records() as records,
        running_front(kind, tmp_path, trusting.ports[KINDS[kind].asks], records.server_port) as front,
    ):
        site = Site(front, trusting, records)
        assert (put(site, signed()).status, site.seen) == (403, [])
        assert put(site, method="GET", body=b"").status == 200


def test_a_new_record_is_entered_by_fhir_and_without(showing: Site) -> None:
    """In an episode of the own organisation, with consent to care; unsigned, or of a patient elsewhere, it is not."""
    for target, record in (
        ("/patients/p-aigul/conditions", {"patient": "p-aigul", "class": "conditions"}),
        ("/fhir/Condition", {"resourceType": "Condition", "subject": {"reference": "Patient/p-aigul"}}),
    ):
        body = json.dumps(record).encode()
        other = body.replace(b"p-aigul", b"p-marat")

        assert put(showing, signed(body), body=body, target=target, method="POST").status == 200
        assert put(showing, body=body, target=target, method="POST").status == 403
        assert put(showing, signed(body), body=other, target=target, method="POST").status == 403
        assert (
            put(showing, signed(other), body=other, target=target.replace("aigul", "marat"), method="POST").status
            == 403
        )
        assert showing.seen == []


def test_a_header_of_any_size_gets_nothing_in(showing: Site) -> None:
    """What is larger than a head may be, and what is no signature for its size."""
    for size in (12_000, 40_000):
        reply = put(showing, f"X-Ruqsat-Signature: {'A' * size}")

        assert reply.status in (400, 403)
        assert showing.seen == []
    assert put(showing, signed()).status == 200


def test_haproxy_shows_all_of_a_body_or_nothing(tmp_path: Path) -> None:
    """Never what its buffer happens to hold of a larger one; and the word for it is its own."""
    with (
        running_records() as asked,
        running_records() as records,
        running_front("haproxy", tmp_path, asked.server_port, records.server_port) as front,
    ):
        for body in (RECORD, padded(40_000)):
            ask(
                front.port, "PUT", O1, "X-Ruqsat-Signature: AA", "X-Ruqsat-Body: whole", "X-Ruqsat-Body: whole",
                f"Content-Length: {len(body)}", body=body,
            )  # fmt: skip

    told = [(each["headers"].get("x-ruqsat-body"), each["body"].encode()) for each in asked.seen]
    assert told == [("whole", RECORD), (None, b"")]
