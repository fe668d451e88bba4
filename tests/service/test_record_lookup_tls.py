"""Look-ups over TLS: the server must be the one that our authority signed, and it sees our certificate."""

import asyncio
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from ruqsat.errors import StoreUnavailableError
from ruqsat.stores.fhir_server import FhirServerEntry, HttpFhirServer
from tests.fhir_ground import FhirServer, observation, serving
from tests.web.test_enforcement_points import Authority

HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@contextmanager
def running(authority: Authority, pair: tuple[Path, Path]) -> Iterator[FhirServer]:
    """Run a server that demands a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, pair))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    server = FhirServer()
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.answer = lambda _: (200, {}, b'{"resourceType":"Observation","id":"o1"}')
    server.put(observation("o1"))
    with serving(server):
        yield server


def fetch(server: FhirServer, ca: Path, pair: tuple[Path, Path], host: str = "127.0.0.1") -> bytes | None:
    """Ask for a record with a certificate."""
    url = server.url.replace("http://127.0.0.1", f"https://{host}")

    async def run() -> bytes | None:
        client = HttpFhirServer(FhirServerEntry(url, certificate=pair[0], key=pair[1], ca=ca, seconds=10))
        try:
            return await client.fetch_record("Observation", "o1", "", ("id",))
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_both_ends_are_proven(tmp_path: Path) -> None:
    """Found with our certificate at the server of the authority; nothing with another's, at another's, or elsewhere."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours, theirs = Authority(tmp_path / "a", "ours"), Authority(tmp_path / "b", "theirs")
    sound, foreign = ours.issue("client", HERE), theirs.issue("client", HERE)

    with running(ours, ours.issue("server", HERE)) as server:
        assert fetch(server, ours.file, sound) == b'{"resourceType":"Observation","id":"o1"}'
        for ca, pair, host in (
            (ours.file, foreign, "127.0.0.1"),
            (theirs.file, sound, "127.0.0.1"),
            (ours.file, sound, "localhost"),
        ):
            server.seen.clear()
            with pytest.raises(StoreUnavailableError):
                fetch(server, ca, pair, host)
            assert server.seen == []
