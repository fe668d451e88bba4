"""Who may reach the process, and how it knows them: listeners, enforcement points, tokens, as the settings say."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from ruqsat.core.policy_set import PolicySet
from ruqsat.core.routes import RouteTable
from ruqsat.core.vocabulary import BLOCKING_DUTIES
from ruqsat.errors import SettingsError
from ruqsat.rehearsal import Rehearsal
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.flight import keep_running
from ruqsat.service.ports import Clock
from ruqsat.service.record_lookup import RecordLookup
from ruqsat.service.search import Search
from ruqsat.service.signatures import SignatureVerifier
from ruqsat.service.verifications import Verifications
from ruqsat.settings import Settings
from ruqsat.web.authzen import AuthZen, build_metadata
from ruqsat.web.enforcement_points import App, Door, EnforcementPoints, Guarded, read_points
from ruqsat.web.follow_ups import FollowUps
from ruqsat.web.forward_auth import Aids, ForwardAuth
from ruqsat.web.forward_auth.signed import Signatures
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.listeners import Companion, Listen, Listener, Tls, is_local, parse_listen
from ruqsat.web.load import Load
from ruqsat.web.token_keys import OneKey, PublishedKeys, fetch_document


class Doors(Struct, frozen=True):
    """
    What every listener needs: who may ask, by which certificates, whose tokens, and how much at once.

    ``published``: the keys that the issuer publishes, if tokens are verified with those.
    """

    settings: Settings
    points: EnforcementPoints
    tls: Tls | None
    verifier: TokenVerifier | None
    published: PublishedKeys | None
    load: Load

    def keep_keys_fresh(self, stack: AsyncExitStack) -> None:
        """Fetch published keys now and then, until *stack* is left."""
        if self.published is not None:
            keep_running(stack, self.published.refresh_forever())

    @property
    def awaited_keys(self) -> PublishedKeys | None:
        """The published keys, if a listener is on that allows nothing without them."""
        return None if (self.settings.auth_listen, self.settings.grpc_listen) == ("off", "off") else self.published

    def forward_auth(
        self, decision_point: DecisionPoint, routes: RouteTable, policy_set: PolicySet,
        verifier: SignatureVerifier | None, clock: Clock, lookups: Mapping[str, RecordLookup],
    ) -> ForwardAuth | None:  # fmt: skip
        """Return what proxies ask; None where no token could be verified.  *verifier* is that of signed records."""
        if self.verifier is None:
            return None
        signatures = Signatures(None if verifier is None else Verifications(verifier), lambda: clock.now().lo)
        door = self.points.door("auth")
        return ForwardAuth(
            decision_point, self.verifier, routes, policy_set, door, self.load, Aids(signatures, lookups)
        )

    def authzen(self, decision_point: DecisionPoint, search: Search, follow_ups: FollowUps | None = None) -> AuthZen:
        """Return what applications ask."""
        settings = self.settings
        opened = Door.opened(
            explain=settings.json_explain, capabilities=settings.json_capabilities, search=settings.json_search
        )
        door = self.points.door("json", opened)
        public = settings.public_url
        metadata = None if public is None else build_metadata(public, search=door.lets_search)
        return AuthZen(decision_point, door, metadata, self.load, search, follow_ups)

    def guarded(self, control: App) -> Guarded:
        """Return the control application behind its door."""
        return Guarded(control, self.points.door("control"))

    def listeners(self, apps: Mapping[str, Any]) -> tuple[Listener, ...]:
        """Return a listener for each application that is not switched off."""
        addresses = {name: parse_listen(getattr(self.settings, f"{name}_listen")) for name in apps}
        return tuple(
            Listener(name, listen, app, self.tls, self.settings.max_connections)
            for name, app in apps.items()
            if app is not None and (listen := addresses[name]) is not None
        )

    def companions(self, auth: ForwardAuth | None) -> tuple[Companion, ...]:
        """Return the listeners that are no ASGI applications."""
        listen = parse_listen(self.settings.grpc_listen)
        if listen is None or auth is None:
            return ()
        try:
            from ruqsat.web.ext_authz import GrpcListener  # noqa: PLC0415 - an extra of the package
        except ImportError as error:
            raise SettingsError("RUQSAT_GRPC_LISTEN: needs `pip install 'ruqsat[grpc]'`, or `off`") from error
        door, is_shared = self.points.door("grpc"), self.settings.workers > 1
        return (GrpcListener(listen, auth, door, self.tls, is_shared=is_shared),)


def find_doors(settings: Settings, rehearsal: Rehearsal | None) -> Doors:
    """
    Return what the settings say of listeners and callers.

    Raises:
        SettingsError: they cannot be used, or a listener would answer strangers beyond this machine.
    """
    points, tls = _points(settings, rehearsal), _tls(settings)
    published = None
    if settings.token_jwks_url is not None:
        published = PublishedKeys(partial(fetch_document, settings.token_jwks_url), settings.token_algorithms)
    verifier = _verifier(settings, published)
    return Doors(settings, points, tls, verifier, published, Load(settings.max_in_flight, settings.max_waiting))


def _verifier(settings: Settings, published: PublishedKeys | None) -> TokenVerifier | None:
    if settings.token_issuer is None or settings.token_audience is None:
        return None
    if published is not None:
        return TokenVerifier(settings.token_issuer, settings.token_audience, published)
    key = settings.token_key_bytes()
    with naming("RUQSAT_TOKEN_KEY" if settings.token_key is not None else "RUQSAT_TOKEN_KEY_FILE"):
        return TokenVerifier(settings.token_issuer, settings.token_audience, OneKey(settings.token_algorithm, key))


def _points(settings: Settings, rehearsal: Rehearsal | None) -> EnforcementPoints:
    """
    Return who may ask where.

    Raises:
        SettingsError: an entry cannot be used, or a listener would answer strangers beyond this machine.
    """
    with naming("RUQSAT_ENFORCEMENT_POINTS"):
        points = read_points(settings.enforcement_points, BLOCKING_DUTIES)
        if rehearsal is not None and points.is_guarded("json"):
            raise SettingsError("with test fixtures the JSON listener answers whoever reaches it: register none there")
    for name in ("json", "auth", "control", "grpc"):
        with naming(f"RUQSAT_{name.upper()}_LISTEN"):
            _refuse_strangers(name, parse_listen(getattr(settings, f"{name}_listen")), points, settings.tls_client_ca)
    return points


def _refuse_strangers(name: str, listen: Listen | None, points: EnforcementPoints, client_ca: Path | None) -> None:
    if listen is None:
        return
    if not is_local(listen) and not points.is_guarded(name):
        raise SettingsError(
            f"expected a loopback address or `unix:/path`: no enforcement point is registered for the {name} listener "
            "(RUQSAT_ENFORCEMENT_POINTS), so that whoever reached it would be answered"
        )
    if points.needs_certificates(name) and (client_ca is None or listen.path):
        raise SettingsError("points that prove themselves by certificates need TCP and RUQSAT_TLS_CLIENT_CA")


def _tls(settings: Settings) -> Tls | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    for name in ("tls_certificate", "tls_key", "tls_client_ca"):
        file = getattr(settings, name)
        if file is not None and not file.is_file():
            raise SettingsError(f"RUQSAT_{name.upper()}: there is no such file")
    tls = Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        tls.load_into(context)
    except (OSError, ValueError) as error:
        raise SettingsError(
            "RUQSAT_TLS_CERTIFICATE, RUQSAT_TLS_KEY: expected a certificate chain and its own private key, in PEM, "
            "the key without a password"
        ) from error
    try:
        context.load_verify_locations(settings.tls_client_ca or settings.tls_certificate)
    except OSError as error:
        raise SettingsError("RUQSAT_TLS_CLIENT_CA: expected certificates of authorities, in PEM") from error
    return tls


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """Put the name of the setting before what a deeper layer says of its value."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{setting}: {error}") from error
