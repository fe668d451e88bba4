"""What a real Envoy writes of its clients' certificates is read, and nothing that a client writes is."""

import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from cryptography import x509

from tests.process.starter import EVALUATION, Sidecar, question, serving
from tests.proxies.front import KINDS, _accepts, _environment, _program, free_port
from tests.sidecar import stop
from tests.web.test_enforcement_points import Authority

OURS = "spiffe://hospital/records"
POINTS = """
[mesh]
listeners = ["json"]
uid       = [{uid}]
forwards  = "one"

[records]
listeners   = ["json"]
behind      = "mesh"
certificate = ["uri:{ours}"]
"""


class Mesh(NamedTuple):
    """An Envoy that asks for its clients' certificates, and the sidecar behind it on a Unix socket."""

    port: int
    authority: Authority
    sidecar: Sidecar

    def ask(self, pair: tuple[Path, Path], *told: str) -> int:
        """Ask with a certificate, and perhaps with headers of one's own; return the status."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.load_cert_chain(*map(str, pair))
        headers = [("x-forwarded-client-cert", value) for value in told]
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.post(
                f"https://localhost:{self.port}{EVALUATION}", json=question(), headers=headers
            ).status_code


def _files(pair: tuple[Path, Path]) -> dict[str, Any]:
    return {"certificate_chain": {"filename": str(pair[0])}, "private_key": {"filename": str(pair[1])}}


def configuration(port: int, own: tuple[Path, Path], authority: Path, socket: Path, mode: str) -> str:
    """Return the configuration of an Envoy before the JSON listener."""
    types = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "mesh",
        "forward_client_cert_details": mode,
        "set_current_client_cert_details": {"subject": True, "cert": True, "chain": True, "uri": True, "dns": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "sidecar"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}}],
    }  # fmt: skip
    tls = {
        "@type": f"{types}.transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
        "common_tls_context": {"tls_certificates": [_files(own)], "validation_context": {"trusted_ca": {"filename": str(authority)}}},
    }  # fmt: skip
    listener = {
        "name": "mesh", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": tls},
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        }],
    }  # fmt: skip
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    cluster = {
        "name": "sidecar",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "sidecar", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return yaml.safe_dump({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


@pytest.fixture(scope="module", params=["SANITIZE_SET", "APPEND_FORWARD"])
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The mesh in each mode that writes the header; the sidecar's rule is that of the mode."""
    folder, mode = tmp_path_factory.mktemp("mesh"), str(request.param)
    authority, program, port = Authority(folder, "ours"), _program("envoy"), free_port()
    own = authority.issue("mesh", x509.DNSName("localhost"), x509.UniformResourceIdentifier("spiffe://hospital/mesh"))
    file, socket = folder / "points.toml", folder / "ask.sock"
    text = POINTS.format(uid=os.getuid(), ours=OURS)
    file.write_text(text if mode == "SANITIZE_SET" else text.replace('"one"', '"last"'))
    config, output = folder / "envoy.yaml", folder / "envoy.output"
    config.write_text(configuration(port, own, authority.file, socket, mode))
    with (
        serving(folder, enforcement_points=str(file), json_listen=f"unix:{socket}") as sidecar,
        output.open("wb") as sink,
    ):
        process = subprocess.Popen(KINDS["envoy"].command(program, config, folder), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                                   cwd=folder, env=_environment(folder))  # fmt: skip
        try:
            assert _accepts(process, port), output.read_text()
            yield Mesh(port, authority, sidecar)
        finally:
            stop(process)


def issued(mesh: Mesh, name: str, *names: str) -> tuple[Path, Path]:
    """A certificate of the authority with these URIs, and a name with a dot and a comma in its subject."""
    return mesh.authority.issue(name, *map(x509.UniformResourceIdentifier, names), x509.DNSName(f"{name}.hospital"))


def test_a_certificate_on_the_list_asks(mesh: Mesh) -> None:
    """A client whose certificate, as this Envoy writes it, is on the list may ask."""
    assert mesh.ask(issued(mesh, "records", OURS)) == 200


@pytest.mark.parametrize("names", [
    (), ("spiffe://hospital/other",), (f"{OURS}/x",), ("spiffe://hospital/other", OURS), (f"spiffe://evil;URI={OURS}",),
    (f'spiffe://evil";URI={OURS}',),
])  # fmt: skip
def test_any_other_certificate_does_not(mesh: Mesh, names: tuple[str, ...]) -> None:
    """None on the list, several, and one whose name tries to be two; the authority signed all of them."""
    assert mesh.ask(issued(mesh, "other", *names)) == 401


def test_a_client_cannot_write_the_header_itself(mesh: Mesh) -> None:
    """Whatever it sends, once, twice or with an open quote, its certificate decides."""
    other, records = issued(mesh, "other", "spiffe://hospital/other"), issued(mesh, "records", OURS)

    for told in (
        (f"URI={OURS}",),
        (f"By=x;URI={OURS}",),
        (f"URI={OURS}", f"URI={OURS}"),
        (f'Subject="{OURS}',),
        ('Subject="',),
        ("",),
    ):
        assert mesh.ask(other, *told) == 401, told
    assert mesh.ask(records, "URI=spiffe://hospital/other") == 200
