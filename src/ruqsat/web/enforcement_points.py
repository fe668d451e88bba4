"""
Enforcement points: who may ask, on which listener, how it proves to be the one, and what it can do.

They are registered in a file.  A listener with registered points answers nobody
else; one without answers whoever reaches it, and is therefore bound to this
machine only.  Every proof that a point's entry states must hold.
"""

import hmac
import tomllib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from ruqsat.errors import SettingsError
from ruqsat.web.forwarded_certificates import XFCC, Hops, MalformedError, read_names

PEER = "ruqsat.peer"
"""Key of the scope that holds what the connection itself proves."""

POINT = "ruqsat.point"
"""Key of the scope that holds the name of the registered point which asks."""

SECRET = b"x-ruqsat-secret"
CHALLENGE = (b"www-authenticate", b'Ruqsat realm="ruqsat"')

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
ListenerName = Literal["json", "auth", "control", "grpc"]
_DIGEST = 64
_NAMES = {False: ("dns:", "uri:", "ip:"), True: ("dns:", "uri:", "hash:")}
_FORWARDED = frozenset({"json", "control"})


class Peer(Struct, frozen=True):
    """
    What a connection proves of its other end.

    Attributes:
        names: Alternative names of the verified client certificate: ``dns:…``, ``uri:…``, ``ip:…``.
        uid: The user of a process behind a Unix socket, as the kernel tells it.
    """

    names: tuple[str, ...] = ()
    uid: int | None = None


NOBODY = Peer()


class EnforcementPoint(Struct, frozen=True, forbid_unknown_fields=True):
    """
    An entry of the file.

    Attributes:
        listeners: Where it may ask.
        secret_sha256: Digest, in hexadecimal, of what it sends as ``X-Ruqsat-Secret``.
        certificate: Names, of which its client certificate holds one.
        uid: Users, as one of which it runs behind a Unix socket.
        forwards: It is an Envoy that speaks for whoever is behind it, by ``x-forwarded-client-cert``, and never for
            itself: ``one`` where it alone writes that header, ``last`` where it adds to what others wrote.
        behind: The entry of the Envoy that it asks through; ``certificate`` is what that one tells of it then.
        explain: It may see exact reasons (JSON listener).
        capabilities: Blocking duties that it can carry out (JSON listener).
        search: It may search, and so learn who has access to what (JSON listener).
    """

    listeners: tuple[ListenerName, ...]
    secret_sha256: str | None = None
    certificate: tuple[str, ...] = ()
    uid: tuple[int, ...] = ()
    forwards: Hops | None = None
    behind: str | None = None
    explain: bool = False
    capabilities: tuple[str, ...] = ()
    search: bool = False
    name: str = ""

    def is_proven(self, peer: Peer, secrets: list[bytes]) -> bool:
        """Tell whether every proof that the entry states is there."""
        if self.certificate and not set(self.certificate).intersection(peer.names):
            return False
        if self.uid and peer.uid not in self.uid:
            return False
        if self.secret_sha256 is None:
            return True
        given = sha256(secrets[0]).hexdigest() if len(secrets) == 1 else ""
        return hmac.compare_digest(given, self.secret_sha256)


class Door:
    """
    Who is let in at one listener.

    Args:
        points: Whoever is registered there.
        anybody: What whoever reaches the listener is taken for, where nobody is registered.
    """

    def __init__(self, points: tuple[EnforcementPoint, ...], anybody: EnforcementPoint | None = None) -> None:
        # A forwarder asks nothing itself.
        self.points = tuple(each for each in points if each.forwards is None) if anybody is None else (anybody,)
        self._direct = tuple(each for each in self.points if each.behind is None)
        self._forwarders = tuple(each for each in points if each.forwards is not None)
        self._anybody = anybody

    @classmethod
    def opened(cls, *, explain: bool = False, capabilities: tuple[str, ...] = (), search: bool = False) -> Self:
        """Return the door of a listener that answers whoever reaches it."""
        return cls((), EnforcementPoint((), explain=explain, capabilities=capabilities, search=search))

    @property
    def lets_search(self) -> bool:
        """Tell whether anybody who is let in may search."""
        return any(point.search for point in self.points)

    def enter(self, scope: Scope) -> EnforcementPoint | None:
        """Return the point that asks; None for nobody that is registered here."""
        if self._anybody is not None:
            return self._anybody
        headers = scope["headers"]
        secrets = [value for name, value in headers if name == SECRET]
        told = [value for name, value in headers if name == XFCC] if self._forwarders else []
        return self.find(scope.get(PEER, NOBODY), secrets, told)

    def find(self, peer: Peer, secrets: list[bytes], told: Sequence[bytes] = ()) -> EnforcementPoint | None:
        """
        Return the first point whose proofs are all there.

        Args:
            told: Certificates as the peer tells them; read only if it is a registered forwarder, which then asks
                for whoever they name and for nobody else.
        """
        if self._anybody is not None:
            return self._anybody
        for forwarder in self._forwarders:
            if forwarder.is_proven(peer, []):
                return self._find_behind(forwarder, secrets, list(told))
        return next((point for point in self._direct if point.is_proven(peer, secrets)), None)

    def _find_behind(
        self, forwarder: EnforcementPoint, secrets: list[bytes], told: list[bytes]
    ) -> EnforcementPoint | None:
        try:
            peer = Peer(read_names(told, forwarder.forwards or "one"))
        except MalformedError:
            return None
        behind = (point for point in self.points if point.behind == forwarder.name)
        return next((point for point in behind if point.is_proven(peer, secrets)), None)


class EnforcementPoints:
    """The registered points; without any, every listener is open to whoever reaches it."""

    def __init__(self, points: dict[str, EnforcementPoint]) -> None:
        self._points = points

    def door(self, listener: str, opened: Door | None = None) -> Door:
        """Return who is let in at *listener*; *opened* where nobody is registered."""
        known = tuple(point for point in self._points.values() if listener in point.listeners)
        return Door(known) if known else opened or Door.opened()

    def is_guarded(self, listener: str) -> bool:
        """Tell whether only registered points are answered at *listener*."""
        return any(listener in point.listeners for point in self._points.values())

    def needs_certificates(self, listener: str) -> bool:
        """Tell whether some point proves itself there by a certificate."""
        return any(
            point.certificate for point in self._points.values() if listener in point.listeners and point.behind is None
        )


class Guarded:
    """
    An ASGI application behind a door; whoever watches the process may ask for its health all the same.

    Health says nothing of anybody, and those who watch have no secret to show.
    """

    OPEN = ("/health/live", "/health/ready")

    def __init__(self, app: App, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a registered point's request on; refuse anybody else's."""
        point = self._door.enter(scope) if scope["type"] == "http" else None
        if point is not None or scope["type"] != "http" or scope["path"] in self.OPEN:
            await self._app({**scope, POINT: "" if point is None else point.name}, receive, send)
            return
        body = b"this listener answers registered enforcement points only"
        headers = [CHALLENGE, (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def read_points(file: Path | None, known_duties: tuple[str, ...]) -> EnforcementPoints:
    """
    Read the file of enforcement points; none is no points.

    Raises:
        SettingsError: it cannot be read or used; the message names the entry and what to do, and no value.
    """
    if file is None:
        return EnforcementPoints({})
    try:
        found = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), dict[str, EnforcementPoint])
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"an entry is not as expected: {str(error)[:1].lower()}{str(error)[1:]}") from error
    if not found:
        raise SettingsError("holds no entry: register a point, or leave the setting out")
    for name, point in found.items():
        _check(name, point, known_duties)
        _check_forwarding(name, point, found)
    return EnforcementPoints({name: msgspec.structs.replace(point, name=name) for name, point in found.items()})


def _check(name: str, point: EnforcementPoint, known_duties: tuple[str, ...]) -> None:
    wrong = ""
    if not point.listeners:
        wrong = "`listeners` is empty: name at least one of json, auth, control, grpc"
    elif point.name:
        wrong = "`name` is the entry's own: leave it out"
    elif point.secret_sha256 is None and not point.certificate and not point.uid:
        wrong = "it proves itself by nothing: give `secret_sha256`, `certificate` or `uid`"
    elif point.secret_sha256 is not None and not _is_digest(point.secret_sha256):
        wrong = "`secret_sha256` is no digest: 64 hexadecimal digits, lower case (`printf %s SECRET | sha256sum`)"
    elif any(not each.startswith(_NAMES[point.behind is not None]) for each in point.certificate):
        wrong = (
            "`certificate` lists names of a certificate: `dns:…`, `uri:…`, `ip:…`; behind an Envoy `hash:…`, not `ip:…`"
        )
    elif point.uid and "grpc" in point.listeners:
        wrong = "the grpc listener cannot tell users of processes: give `secret_sha256` or `certificate` there"
    elif not set(point.capabilities) <= set(known_duties):
        wrong = f"`capabilities` are some of {', '.join(known_duties)}"
    elif (point.explain or point.capabilities or point.search) and point.listeners != ("json",):
        wrong = "`explain`, `capabilities` and `search` are of the JSON listener alone: a proxy can carry out nothing"
    if wrong:
        raise SettingsError(f"[{name}] {wrong}")


def _check_forwarding(name: str, point: EnforcementPoint, found: dict[str, EnforcementPoint]) -> None:
    wrong = ""
    if point.forwards is not None:
        if not set(point.listeners) <= _FORWARDED:
            wrong = "an Envoy forwards to the json and control listeners; at the others the certificate is a client's"
        elif point.behind is not None or point.explain or point.capabilities or point.search:
            wrong = "it only forwards: give what it may see and do to whoever is behind it"
        elif point.secret_sha256 is not None or not (point.certificate or point.uid):
            wrong = "an Envoy that forwards proves itself by `certificate` or `uid`: a secret could be its client's"
    elif point.behind is not None:
        forwarder = found.get(point.behind)
        if forwarder is None or forwarder.forwards is None or not set(point.listeners) <= set(forwarder.listeners):
            wrong = "`behind` names an entry that `forwards`, at the same listeners"
        elif point.uid or not point.certificate:
            wrong = "behind an Envoy it proves itself by `certificate`, as the Envoy tells it"
    if wrong:
        raise SettingsError(f"[{name}] {wrong}")


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST and set(text) <= set("0123456789abcdef")
