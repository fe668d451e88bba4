"""Requests at FHIR servers, and a small one on loopback: it tells records by id, and misbehaves as it is told to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from ruqsat.core.fhir.meaning import INVALID, Meaning, refused
from ruqsat.core.fhir.reading import read_target
from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.target import TargetRejected, parse_target

TOKEN = "the-sidecars-own-token"
LAB = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}]
Reply = tuple[int, dict[str, str], bytes]
ServerT = TypeVar("ServerT", bound=HTTPServer)


class FhirRequest(Struct, frozen=True):
    """A request as it arrives; ``body`` is None where it cannot be seen."""

    method: str
    target: bytes
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def read_request(request: FhirRequest, words: FhirWords) -> Meaning:
    """Return what a request means, its target read first."""
    try:
        target = parse_target(request.target, None)
    except TargetRejected:
        return refused(INVALID, "bad_target")
    return read_target(request.method, target, request.headers, request.body, words)


def observation(name: str, patient: str = "p-dana", **more: Any) -> dict[str, Any]:
    """A laboratory result of a patient."""
    return {
        "resourceType": "Observation", "id": name, "meta": {"versionId": "1"}, "category": LAB,
        "subject": {"reference": f"Patient/{patient}"},
    } | more  # fmt: skip


class FhirServer(ThreadingHTTPServer):
    """``records`` by path below the base, ``seen`` what was asked; ``answer`` replaces what it would say."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.records: dict[str, Any] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str], Reply] | None = None
        self.delay = 0.0

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.server_port}/fhir"

    def put(self, *records: dict[str, Any]) -> None:
        """Have these records, each under its type and id."""
        self.records |= {f"{each['resourceType']}/{each['id']}": each for each in records}

    @property
    def asked(self) -> list[str]:
        """What was asked for, below the base and without parameters."""
        return [urlsplit(path).path.removeprefix("/fhir/") for path, _ in self.seen]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FhirServer

    def do_GET(self) -> None:
        """Answer."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers))
        time.sleep(self.server.delay)
        status, said, body = (self.server.answer or self._plain)(self.path)
        self.send_response(status)
        for name, value in ({"content-type": "application/fhir+json", "content-length": str(len(body))} | said).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _plain(self, path: str) -> Reply:
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            return 401, {}, b"{}"
        parts = urlsplit(path)
        record = self.server.records.get(parts.path.removeprefix("/fhir/"))
        if record is None:
            return 404, {}, b'{"resourceType":"OperationOutcome"}'
        wanted = parse_qs(parts.query)["_elements"][0].split(",")
        return 200, {}, json.dumps({k: v for k, v in record.items() if k in (*wanted, "resourceType")}).encode()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: ServerT) -> Iterator[ServerT]:
    """Run a server on a thread of its own; it is gone when the block is left."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def running_fhir() -> AbstractContextManager[FhirServer]:
    """Run a server on a free port of loopback; it is gone when the block is left."""
    return serving(FhirServer())


def servers_file(folder: Path, url: str, more: str = "") -> Path:
    """A file of servers, with a token, for the base of the shipped routes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(TOKEN + "\n")
    file = folder / "fhir.toml"
    file.write_text(f'["/fhir"]\nurl = "{url}"\ntoken_file = "{folder / "token"}"\n{more}\n')
    return file
