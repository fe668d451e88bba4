"""
The keys that tokens are verified with: one that the settings hold, or the set that the issuer publishes.

A key says by its kind which algorithms it may be used with; what a token says of
its own algorithm is believed only within that and within the list of the settings.
Secrets are never taken from a published set.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ruqsat.errors import SettingsError

SHARED = "HS256"
PUBLISHED = ("RS256", "PS256", "ES256", "EdDSA")
ALGORITHMS = (SHARED, *PUBLISHED)
MIN_SECRET_BYTES = 32
MIN_RSA_BITS = 2048
MAX_KEYS = 100

FETCH_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 256 * 1024
REFRESH_SECONDS = 300.0
AGAIN_SECONDS = 10.0
"""How long a key that nobody knows is not asked for again: strangers' tokens must not make us ask at their rate."""
MAX_AGE_SECONDS = 24 * 3600.0
"""A set that could not be fetched again for so long is not used any more: keys are withdrawn by leaving it."""

_OF_KIND = {"RSA": ("RS256", "PS256"), "EC": ("ES256",), "OKP": ("EdDSA",)}
_CURVES = {"EC": "P-256", "OKP": "Ed25519"}
_log = logging.getLogger(__name__)


_since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class UnknownKeyError(Exception):
    """No key by that name, or none of a use for that algorithm."""


class TokenKeys(Protocol):
    """Where a verifier finds the key of a token."""

    generation: int
    """Changes whenever a key has gone or come."""

    @property
    def are_usable(self) -> bool:
        """Whether a token that was verified with one of them before may still be taken."""
        ...

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """Return the key; raises UnknownKeyError."""
        ...

    async def refresh(self) -> None:
        """Look for new keys, if that may help."""
        ...


class OneKey:
    """
    A key of the settings.

    Raises:
        SettingsError: a secret shorter than 32 bytes, a public key that is none, or another algorithm.
    """

    generation = 0
    are_usable = True

    def __init__(self, algorithm: str, key: bytes) -> None:
        if algorithm not in ALGORITHMS:
            raise SettingsError(f"token algorithm: expected one of {', '.join(ALGORITHMS)}")
        if not key:
            raise SettingsError("tokens need an issuer, an audience and a key, all three")
        self._algorithm = algorithm
        self._key = _read_key(algorithm, key)

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """Return the key, for its one algorithm."""
        if algorithm != self._algorithm:
            raise UnknownKeyError
        return self._key

    async def refresh(self) -> None:
        """Know of no other."""


class PublishedKeys:
    """
    The issuer's set (JWKS, RFC 7517), fetched now and then.

    Args:
        fetch: Returns the document, decoded; raises whatever went wrong.
        algorithms: The list of the settings.
        clock: Seconds that only go forward, also while the machine is suspended.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Any]],
        algorithms: tuple[str, ...] = PUBLISHED,
        clock: Callable[[], float] = _since_boot,
    ) -> None:
        self._fetch = fetch
        self._algorithms = algorithms
        self._clock = clock
        self._keys: dict[str | None, tuple[tuple[str, ...], Any]] = {}
        self._document: Any = None
        self._fetched_at = self._tried_at = float("-inf")
        self._busy = asyncio.Lock()
        self.generation = 0
        self.failures = 0

    @property
    def age(self) -> float:
        """Seconds since the set was fetched; infinite before the first time."""
        return self._clock() - self._fetched_at

    @property
    def are_usable(self) -> bool:
        """Whether the set was fetched within a day."""
        return self.age <= MAX_AGE_SECONDS

    @property
    def are_known(self) -> bool:
        """Whether any token could be verified."""
        return bool(self._keys) and self.are_usable

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """Return the key of that name; a token may leave out the name where there is one key."""
        if not self.are_usable:
            raise UnknownKeyError
        if key_id is None and len(self._keys) == 1:
            key_id = next(iter(self._keys))
        algorithms, key = self._keys.get(key_id, ((), None))
        if algorithm not in algorithms:
            raise UnknownKeyError
        return key

    async def refresh(self) -> None:
        """Fetch the set, unless that was tried a moment ago; keys that are known stay if it cannot be had."""
        async with self._busy:
            if self._clock() - self._tried_at < AGAIN_SECONDS:
                return
            self._tried_at = self._clock()
            try:
                document = await self._fetch()
                keys = read_key_set(document, self._algorithms)
            except Exception as error:  # noqa: BLE001 - whatever it was, the keys that are known stay
                self.failures += 1
                _log.error("token_keys_not_fetched %s", type(error).__name__)
                return
            self._fetched_at = self._clock()
            if document != self._document:
                self._keys, self._document = keys, document
                self.generation += 1
                _log.warning("token_keys_changed keys=%d", len(keys))

    async def refresh_forever(self) -> None:
        """Fetch the set every five minutes until cancelled; sooner as long as there is none."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS if self.are_known else AGAIN_SECONDS)


async def fetch_document(url: str) -> Any:
    """
    Fetch a document of the issuer: JSON, at most 256 KiB, within five seconds, from this address and no other.

    Raises:
        httpx.HTTPError, TimeoutError: no answer in time.
        ValueError: another than 200, too large, or no JSON.
    """
    async with (
        asyncio.timeout(FETCH_SECONDS),  # httpx's own is of each step: a byte now and then would never end
        httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as answer,
    ):
        if answer.status_code != 200:
            raise ValueError("expected 200")
        content = bytearray()
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ValueError("expected at most 256 KiB")
    return json.loads(content)


def read_key_set(document: Any, algorithms: tuple[str, ...]) -> dict[str | None, tuple[tuple[str, ...], Any]]:
    """
    Read a JWKS: by name, the algorithms that a key may be used with, and the key.

    Keys for other uses are passed over; so is one that this version cannot use.

    Raises:
        ValueError: it is no key set, holds too many keys, or two by one name.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError("expected a JWKS: an object with a list of at most 100 keys")
    found: dict[str | None, tuple[tuple[str, ...], Any]] = {}
    for each in listed:
        usable = _usable(each, algorithms) if isinstance(each, dict) else None
        if usable is None:
            continue
        name = each.get("kid")
        if name in found or not (name is None or isinstance(name, str)):
            raise ValueError("expected one key a name")
        found[name] = usable
    return found


def _usable(jwk: dict[str, Any], algorithms: tuple[str, ...]) -> tuple[tuple[str, ...], Any] | None:
    jwk = {name: value for name, value in jwk.items() if value is not None}  # some write out what is left out
    kind, stated, uses = jwk.get("kty"), jwk.get("alg"), jwk.get("key_ops", ["verify"])
    allowed = tuple(name for name in _OF_KIND.get(str(kind), ()) if name in algorithms and stated in (None, name))
    if not allowed or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    if not isinstance(uses, list) or "verify" not in uses or jwk.get("crv") != _CURVES.get(str(kind), jwk.get("crv")):
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm=allowed[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    return allowed, key


def _read_key(algorithm: str, key: bytes) -> Any:
    if algorithm == SHARED:
        if len(key) < MIN_SECRET_BYTES:
            raise SettingsError(f"token key: expected a secret of at least {MIN_SECRET_BYTES} bytes for HS256")
        if b"-----BEGIN" in key:
            raise SettingsError("token key: a PEM key is no HS256 secret; set the algorithm to RS256")
        return key
    try:
        loaded = jwt.get_algorithm_by_name(algorithm).prepare_key(key.decode("ascii"))
    except (ValueError, TypeError, jwt.PyJWTError):
        raise SettingsError(f"token key: expected a public key in PEM for {algorithm}") from None
    if not hasattr(loaded, "verify"):
        raise SettingsError("token key: expected the public key, not the private one")
    return loaded
