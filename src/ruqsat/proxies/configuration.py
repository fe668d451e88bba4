"""
Configurations for proxies: the example files, which the tests run, with other addresses.

Nothing but addresses is put in, and only where the file names its own; a file that
does not name them is not the one that was tested.
"""

import re
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from ruqsat.errors import SettingsError

_FRONT, _AUTH, _GRPC, _RECORDS = "8080", "8182", "8184", "9000"
_PORTS = f"{_FRONT}|{_AUTH}|{_GRPC}|{_RECORDS}"
_NAMED = re.compile(
    rf"127\.0\.0\.1:(?P<plain>{_PORTS})\b"
    rf"|address: 127\.0\.0\.1, port_value: (?P<envoy>{_PORTS})\b"
    rf"|http://:(?P<caddy>{_FRONT}) \{{\n\tbind 127\.0\.0\.1\b"
)
_LEFT = re.compile(rf"\b(?:{_PORTS})\b|127\.0\.0\.1")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?)*", re.IGNORECASE)


class Kind(Struct, frozen=True):
    """
    A proxy.

    Attributes:
        folder: Its example's.
        start: How it is started in the folder where its file lies; none for one that runs already and includes it.
        beside: What must lie beside it.
        asks: Which of the sidecar's ports it asks.
    """

    folder: str
    file: str
    start: str = ""
    beside: tuple[str, ...] = ()
    asks: str = _AUTH


KINDS = {
    "envoy": Kind("envoy", "envoy.yaml", "envoy -c envoy.yaml"),
    "envoy-grpc": Kind("envoy", "envoy-grpc.yaml", "envoy -c envoy-grpc.yaml", asks=_GRPC),
    "nginx": Kind("nginx", "nginx.conf", 'nginx -p "$PWD" -c "$PWD/nginx.conf"'),
    "traefik": Kind("traefik", "ruqsat.yaml"),
    "caddy": Kind("caddy", "Caddyfile", "caddy run --config Caddyfile"),
    "haproxy": Kind("haproxy", "haproxy.cfg", "haproxy -db -f haproxy.cfg", ("ruqsat.lua",)),
}


class Address(NamedTuple):
    """A host, by its IPv4 address or its name, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_number(self) -> bool:
        """Tell whether the host is an address and not a name."""
        try:
            IPv4Address(self.host)
        except AddressValueError:
            return False
        return True


def read_address(text: str) -> Address:
    """
    Read ``host:port``.

    Raises:
        SettingsError: it is something else; nothing but these goes into a configuration.

    Examples:
        >>> read_address("records.example:9000")
        Address(host='records.example', port=9000)
    """
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise SettingsError(f"`{text}` is no address: expected HOST:PORT, an IPv4 address or a name")
    address = Address(host, int(port))
    if not address.is_number and host.rpartition(".")[2].isdigit():
        raise SettingsError(f"`{text}` is no address: `{host}` is neither an IPv4 address nor a name")
    return address


def find_examples() -> Path:
    """Return the folder of the examples: the checkout's, else the copy in the wheel."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent.parent / "examples"
    return checkout if checkout.is_dir() else package / "examples"


def render(kind: str, front: Address, sidecar: Address, upstream: Address) -> dict[str, str]:
    """
    Return the files of a proxy's configuration by their names, the main one first.

    Args:
        kind: One of `KINDS`.
        front: Where the proxy listens.
        sidecar: The sidecar's forward-auth listener; its gRPC listener for ``envoy-grpc``.
        upstream: What is behind the proxy.

    Raises:
        SettingsError: the front is no IPv4 address, or the file is not the one that was tested.
    """
    if not front.is_number:
        raise SettingsError(f"`{front}`: a proxy listens on an IPv4 address, not on a name")
    entry = KINDS[kind]
    folder = find_examples() / entry.folder
    shipped = (folder / entry.file).read_text(encoding="utf-8")
    text = _moved(shipped, {_FRONT: front, entry.asks: sidecar, _RECORDS: upstream})
    if entry.folder == "envoy":
        text = _resolved(text, {"ruqsat": sidecar, "records": upstream})
    head = f"# `ruqsat proxy config {kind}`: the file that Ruqsat ships, with these addresses.\n"
    return {entry.file: head + text} | {name: (folder / name).read_text(encoding="utf-8") for name in entry.beside}


def _moved(shipped: str, addresses: dict[str, Address]) -> str:
    """Return a file with other addresses; each must be named, and no other may be."""
    found: set[str] = set()

    def other(match: re.Match[str]) -> str:
        old = match[match.lastgroup or 0]
        found.add(old)
        new = addresses.get(old)
        if new is None:
            return match[0]
        if match.lastgroup == "envoy":
            return f"address: {new.host}, port_value: {new.port}"
        return f"http://:{new.port} {{\n\tbind {new.host}" if match.lastgroup == "caddy" else str(new)

    moved = _NAMED.sub(other, shipped)
    if found != set(addresses) or _LEFT.search(_NAMED.sub("", shipped)):
        raise SettingsError("the example file is not the one that was tested: its addresses are others")
    return moved


def _resolved(text: str, clusters: dict[str, Address]) -> str:
    """Return Envoy's file with clusters that look names up, where there are names."""
    for name, address in clusters.items():
        if not address.is_number:
            text, hits = re.subn(rf"(- name: {name}\n +type: )STATIC\b", r"\1STRICT_DNS", text)
            if hits != 1:
                raise SettingsError("the example file is not the one that was tested: its clusters are others")
    return text
