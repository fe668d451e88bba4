"""
Who asks, behind a proxy: a verified bearer token, and nothing else.

A header that a client can set is never identity.  A token is accepted from one
issuer, for one audience, under the algorithm of its key, before its expiry; its claims
have the types that they must have, or it is refused whole.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

import jwt
from msgspec.structs import replace

from ruqsat.errors import SettingsError
from ruqsat.web.claims import BadClaimsError, Identity, read_identity
from ruqsat.web.token_keys import TokenKeys, UnknownKeyError

LEEWAY_SECONDS = 5
KEPT_TOKENS = 4096
KEPT_SECONDS = 60
_BEARER = b"Bearer "
_MAX_TOKEN_BYTES = 8192


class Unauthenticated(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """No identity; ``code`` is RFC 6750's, and tells nothing about the token."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class UnknownKey(Unauthenticated):
    """The token names a key that is not known, perhaps not yet."""


class TokenVerifier:
    """
    Verifies bearer tokens.

    Raises:
        SettingsError: an empty issuer or audience.
    """

    def __init__(self, issuer: str, audience: str, keys: TokenKeys, clock: Callable[[], float] = time.time) -> None:
        if not issuer or not audience:
            raise SettingsError("tokens need an issuer, an audience and a key, all three")
        self._issuer, self._audience, self._keys = issuer, audience, keys
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._generation = keys.generation

    async def identify(self, authorization: list[bytes]) -> Identity:
        """Return who asks; as ``verify``, and a key that is not known is looked for once at the issuer's."""
        try:
            return self.verify(authorization)
        except UnknownKey:
            before = self._keys.generation
            await self._keys.refresh()
            if self._keys.generation == before:
                raise
            return self.verify(authorization)

    def verify(self, authorization: list[bytes]) -> Identity:
        """
        Return who asks.

        Args:
            authorization: The values of every ``Authorization`` header of the request.

        Raises:
            Unauthenticated: there is not exactly one, or its token is not acceptable.
        """
        if not authorization:
            raise Unauthenticated("missing_token")
        if len(authorization) != 1:
            raise Unauthenticated("invalid_request")
        value, now = authorization[0], self._clock()
        known = self._known(value, now)
        if known is not None:
            return known
        if value[: len(_BEARER)].lower() != _BEARER.lower():
            raise Unauthenticated("invalid_request")
        raw = value[len(_BEARER) :].strip()
        if len(raw) > _MAX_TOKEN_BYTES or not raw.isascii():
            raise Unauthenticated("invalid_token")
        # However it is spelt, a token is kept once: nobody drives out the others' by a space more.
        key = _BEARER + raw
        known = self._known(key, now)
        if known is not None:
            return known
        identity, expires_at = self._decode(raw.decode("ascii"))
        # A token is kept whole, never by a digest, and never beyond its own expiry.
        self._kept[key] = (min(now + KEPT_SECONDS, expires_at), identity)
        if len(self._kept) > KEPT_TOKENS:
            self._kept.popitem(last=False)
        return identity

    def _known(self, value: bytes, now: float) -> Identity | None:
        if self._generation != self._keys.generation or not self._keys.are_usable:
            # A key may have been withdrawn, and with it what it has signed; of a set too old nobody knows.
            self._generation = self._keys.generation
            self._kept.clear()
        kept = self._kept.get(value)
        return kept[1] if kept is not None and now < kept[0] else None

    def _decode(self, token: str) -> tuple[Identity, float]:
        try:
            head = jwt.get_unverified_header(token)
            algorithm, key_id = head.get("alg"), head.get("kid")
            if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
                raise Unauthenticated("invalid_token")
            key = self._keys.find(key_id, algorithm)
            claims = jwt.decode(
                token, key, algorithms=[algorithm], audience=self._audience, issuer=self._issuer,
                leeway=LEEWAY_SECONDS, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
            good_until = int(claims["exp"]) + LEEWAY_SECONDS
            return replace(read_identity(claims), good_until=good_until), float(claims["exp"])
        except UnknownKeyError:
            raise UnknownKey("invalid_token") from None
        except (jwt.PyJWTError, BadClaimsError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated("invalid_token") from None
