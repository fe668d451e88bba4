"""Changes of FHIR records through the real proxies that show bodies: signed, of the stored record's patient, or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fhir_ground import FhirServer, observation, running_fhir, servers_file
from tests.proxies.conftest import Site
from tests.proxies.front import KINDS, running_front, running_records
from tests.proxies.raw import Reply, ask, bearer
from tests.proxies.test_signed_records import SHOWS_BODIES, showing_bodies
from tests.sidecar import Sidecar, running_sidecar
from tests.signatures.records import DOCTOR, NURSE, medic, root, signature

O1 = "/fhir/Observation/o1"
HIV = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]}
STATUS = {"op": "replace", "path": "/status", "value": "final"}
NAMING = [
    {"op": "test", "path": "/resourceType", "value": "Observation"},
    {"op": "test", "path": "/id", "value": "o1"},
    {"op": "test", "path": "/subject/reference", "value": "Patient/p-dana"},
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, FhirServer]]:
    """A sidecar that trusts the root of the tests, and the FHIR server that it asks."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "root.pem").write_bytes(root().certificate.public_bytes(Encoding.PEM))
    with running_fhir() as fhir:
        file = servers_file(folder, fhir.url, "seconds = 10")
        settings = {
            "grpc_listen": "127.0.0.1:0",
            "signature_trust": str(folder / "root.pem"),
            "fhir_servers": str(file),
        }
        with running_sidecar(folder / "sidecar", **settings) as sidecar:
            yield sidecar, fhir


@pytest.fixture(scope="module", params=SHOWS_BODIES)
def site(
    request: pytest.FixtureRequest, asked: tuple[Sidecar, FhirServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A proxy that shows bodies."""
    kind, sidecar, folder = str(request.param), asked[0], Path(tmp_path_factory.mktemp(str(request.param)))
    port = sidecar.ports[KINDS[kind].asks]
    with running_records() as records, running_front(kind, folder, port, records.server_port, showing_bodies) as front:
        yield Site(front, sidecar, records)


@pytest.fixture(autouse=True)
def fhir(asked: tuple[Sidecar, FhirServer]) -> FhirServer:
    """The server, with the records of the demo world."""
    asked[1].records.clear()
    asked[1].put(observation("o1"), observation("o2"), observation("a1", "p-marat"))
    return asked[1]


def change(
    site: Site,
    method: str,
    content: Any,
    target: str = O1,
    person: str = "dr_aida",
    by: str | None = DOCTOR,
    **claims: Any,
) -> Reply:
    """Send a change, signed unless *by* is nobody."""
    site.seen.clear()
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    kind = "application/json-patch+json" if method == "PATCH" else "application/fhir+json"
    lines = [
        bearer(site.sidecar.token(person, **{"iin": DOCTOR} | claims)),
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    signed = [] if by is None else [f"X-Ruqsat-Signature: {signature(body, by=medic(by))}"]
    return ask(site.front.port, method, target, *lines, *signed, body=body)


def test_a_signed_change_of_the_patients_record_passes(site: Site) -> None:
    """A new version whole, and a patch that says of which record it is; the server gets what was signed."""
    for method, content in (("PUT", observation("o1", valueString="7.1")), ("PATCH", [*NAMING, STATUS])):
        reply = change(site, method, content)

        assert (reply.status, len(site.seen)) == (200, 1), method
        assert json.loads(site.seen[0]["body"]) == content


def test_a_change_that_disagrees_reaches_nobody(site: Site, fhir: FhirServer) -> None:
    """Moved to or from another patient, of a record that is not there, unsigned, by somebody else, not named."""
    mine, named = observation("o1", valueString="7.1"), [*NAMING, STATUS]
    moves = {"op": "replace", "path": "/subject/reference", "value": "Patient/p-marat"}
    for method, content, target, options in (
        ("PUT", observation("o1", "p-marat"), O1, {}), ("PUT", observation("a1"), "/fhir/Observation/a1", {}),
        ("PUT", observation("o9"), "/fhir/Observation/o9", {}), ("PUT", mine, "/fhir/Observation/o2", {}),
        ("PUT", mine, O1, {"by": None}), ("PUT", mine, O1, {"by": NURSE}), ("PUT", mine, O1, {"person": "dr_erlan"}),
        ("PUT", observation("o2"), "/fhir/Observation/o2", {}), ("PATCH", [STATUS], O1, {}),
        ("PATCH", named, O1, {"by": None}), ("PATCH", named, "/fhir/Observation/a1", {}), ("PATCH", [*named, moves], O1, {}),
    ):  # fmt: skip
        assert (change(site, method, content, target, **options).status, site.seen) == (403, []), (
            method,
            content,
            target,
        )  # type: ignore[arg-type]
    fhir.put(observation("o1", "p-marat"))
    for method, content in (("PUT", mine), ("PATCH", named)):
        assert (change(site, method, content).status, site.seen) == (403, [])
    fhir.put(observation("o1", meta=HIV))
    assert (change(site, "PUT", mine).status, site.seen) == (403, [])


def test_what_needs_no_signature_passes_without_one(site: Site, fhir: FhirServer) -> None:
    """The registration desk corrects demographics; nobody else does, and not of a record that is not there."""
    patient = {"resourceType": "Patient", "id": "p-dana", "meta": {"versionId": "1"}}
    desk = {"person": "reg_saltanat", "roles": ["registrar"], "purpose_of_use": "PATADMIN", "iin": None}
    told = {"target": "/fhir/Patient/p-dana", "by": None}
    assert (change(site, "PUT", patient, **told, **desk).status, site.seen) == (403, [])
    fhir.put(patient)
    assert change(site, "PUT", patient, **told, **desk).status == 200
    assert change(site, "PUT", patient, **told).status == 403
    assert change(site, "PUT", patient | {"id": "p-marat"}, **told, **desk).status == 403
