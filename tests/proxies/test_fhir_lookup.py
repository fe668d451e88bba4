"""Records read by id behind each real proxy: as their patient's, by look-ups at a FHIR server."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.fhir_ground import FhirServer, observation, running_fhir, servers_file
from tests.proxies.front import KINDS, Front, running_front, running_records
from tests.proxies.raw import Reply, ask, bearer
from tests.sidecar import Sidecar, running_sidecar

HIV = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]}


class Site(NamedTuple):
    """A proxy, the sidecar that it asks, the FHIR server that the sidecar asks, and what is behind the proxy."""

    front: Front
    sidecar: Sidecar
    fhir: FhirServer
    records: Any

    def get(self, person: str, target: str, method: str = "GET") -> Reply:
        """Ask through the proxy."""
        return ask(self.front.port, method, target, bearer(self.sidecar.token(person)))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, FhirServer]]:
    """A sidecar and the FHIR server that it asks; nothing is kept, so that each test sees what is there."""
    folder = tmp_path_factory.mktemp("asked")
    with running_fhir() as fhir:
        file = servers_file(folder, fhir.url, "keep_seconds = 0\nseconds = 10")
        with running_sidecar(folder / "sidecar", grpc_listen="127.0.0.1:0", fhir_servers=str(file)) as sidecar:
            yield sidecar, fhir


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, asked: tuple[Sidecar, FhirServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site of each proxy."""
    kind, (sidecar, fhir) = str(request.param), asked
    with (
        running_records() as records,
        running_front(
            kind, tmp_path_factory.mktemp(kind), sidecar.ports[KINDS[kind].asks], records.server_port
        ) as front,
    ):
        yield Site(front, sidecar, fhir, records)


@pytest.fixture(autouse=True)
def _fresh(site: Site) -> None:
    """Each test begins with the records of the demo world and nothing seen."""
    site.records.seen.clear()
    site.fhir.seen.clear()
    site.fhir.answer = None
    site.fhir.records.clear()
    site.fhir.put(observation("o1"), observation("o2"), observation("a1", "p-marat"), observation("o7"))


def test_a_record_passes_for_whom_its_patient_let_in(site: Site) -> None:
    """The physician of the consent, and the patient; the target arrives as it was sent."""
    for person in ("dr_aida", "dana"):
        assert site.get(person, "/fhir/Observation/o1").status == 200
    assert site.get("dana", "/fhir/Observation/o2").status == 200

    assert [seen["target"] for seen in site.records.seen] == ["/fhir/Observation/o1"] * 2 + ["/fhir/Observation/o2"]
    assert site.records.seen[0]["headers"]["x-ruqsat-subject"] == "dr_aida"


def test_a_record_does_not_pass_for_anybody_else(site: Site) -> None:
    """No consent, a label that the consent does not name, another's record, an employee who left, nobody at all."""
    for person, name in (
        ("dr_erlan", "o1"),
        ("dr_aida", "o2"),
        ("dana", "a1"),
        ("dr_former", "o1"),
        ("stranger", "o1"),
        ("dr_aida", "a1"),
    ):
        assert site.get(person, f"/fhir/Observation/{name}").status == 403, (person, name)
    assert ask(site.front.port, "GET", "/fhir/Observation/o1").status == 401
    assert site.get("dr_aida", "/fhir/Observation/o1", "DELETE").status == 403
    assert site.records.seen == []


def test_a_label_that_only_the_server_knows_counts(site: Site) -> None:
    """Our store says that o1 has no labels; the server labels it, and the consent does not name the label."""
    assert site.get("dr_aida", "/fhir/Observation/o1").status == 200
    site.fhir.put(observation("o1", meta=HIV))

    assert site.get("dr_aida", "/fhir/Observation/o1").status == 403
    assert site.get("dana", "/fhir/Observation/o1").status == 200


def test_a_label_that_the_server_does_not_know_is_not_gone(site: Site) -> None:
    """Absence at the server says nothing: o2 stays as our store labels it; o7, of which it knows nothing, unlabelled."""
    for meta in ({}, {"security": []}):
        site.fhir.put(observation("o2", meta=meta), observation("o7", meta=meta))
        assert [site.get("dr_aida", f"/fhir/Observation/{name}").status for name in ("o2", "o7")] == [403, 403]


def test_a_record_that_moved_goes_with_its_patient(site: Site) -> None:
    """The next reading is decided by whose it is now."""
    assert site.get("dr_aida", "/fhir/Observation/o1").status == 200
    site.fhir.put(observation("o1", "p-marat"))

    assert site.get("dr_aida", "/fhir/Observation/o1").status == 403
    assert site.get("dana", "/fhir/Observation/o1").status == 403


def test_an_unknown_record_looks_like_a_forbidden_one(site: Site) -> None:
    """The same status, reason and headers, for a record that is not there, of nobody, and of a patient who refused."""
    site.fhir.put({"resourceType": "Observation", "id": "o8"})
    replies = [site.get("dr_aida", f"/fhir/Observation/{name}") for name in ("o9", "o8", "a1", "o2")]
    varying = {"x-ruqsat-decision", "date", "x-envoy-upstream-service-time"}
    told = {
        (reply.status, reply.body, *sorted((k, v) for k, v in reply.headers.items() if k not in varying))
        for reply in replies
    }

    assert len(told) == 1
    assert replies[0].headers["x-ruqsat-reason"] == "not_permitted"
    assert len({len(reply.headers["x-ruqsat-decision"]) for reply in replies}) <= 2


def test_a_server_that_fails_lets_nothing_through(site: Site) -> None:
    """Redirects to a record that may be read, errors, other formats, and a record in another's place."""
    o1 = json.dumps(observation("o1")).encode()
    for reply in (
        (302, {"location": "/fhir/Observation/o1"}, b""),
        (500, {}, o1),
        (200, {"content-type": "text/html"}, o1),
        (200, {}, o1),
    ):
        site.fhir.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        assert site.get("dr_aida", "/fhir/Observation/a1").status == 403
    assert site.records.seen == []


def test_a_version_is_decided_by_it_and_by_the_record_now(site: Site) -> None:
    """Both must be of the patient; a version that is not there is nobody's."""
    version = observation("o1", meta={"versionId": "1"})
    site.fhir.records["Observation/o1/_history/1"] = version
    assert site.get("dr_aida", "/fhir/Observation/o1/_history/1").status == 200
    assert site.get("dr_aida", "/fhir/Observation/o1/_history/2").status == 403
    site.fhir.put(observation("o1", "p-marat"))
    assert site.get("dr_aida", "/fhir/Observation/o1/_history/1").status == 403
    site.fhir.put(observation("o1"))
    site.fhir.records["Observation/o1/_history/1"] = version | {"meta": {"versionId": "1"} | HIV}
    assert site.get("dr_aida", "/fhir/Observation/o1/_history/1").status == 403
