"""
Who asks, behind a proxy: a verified bearer token, and nothing else.

A header that a client can set is never identity.  A token is accepted from one
issuer, for one audience, under one algorithm, before its expiry; its claims
have the types that they must have, or it is refused whole.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from msgspec import Struct

from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.request import Subject, SubjectProperties
from ruqsat.errors import SettingsError

ALGORITHMS = ("HS256", "RS256")
MIN_SECRET_BYTES = 32
LEEWAY_SECONDS = 5
KEPT_TOKENS = 4096
KEPT_SECONDS = 60
_SUBJECT_TYPES = ("user", "patient", "service")
_BEARER = b"bearer "
_MAX_TOKEN_BYTES = 8192
_END_OF_TIME = 1 << 40


class Identity(Struct, frozen=True):
    """A verified caller: the subject, the purposes that its token states, the token's own id, when it was issued."""

    subject: Subject
    purpose: str | tuple[str, ...] | None = None
    jti: str | None = None
    issued_at: Instant | None = None


class Unauthenticated(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """No identity; ``code`` is RFC 6750's, and tells nothing about the token."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class TokenVerifier:
    """
    Verifies bearer tokens.

    Raises:
        SettingsError: an empty issuer, audience or key, a secret shorter than 32 bytes, a
            public key that is none, or an algorithm outside the list.
    """

    def __init__(
        self, issuer: str, audience: str, algorithm: str, key: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        if not issuer or not audience or not key:
            raise SettingsError("tokens need an issuer, an audience and a key, all three")
        if algorithm not in ALGORITHMS:
            raise SettingsError(f"token algorithm: expected {' or '.join(ALGORITHMS)}")
        self._issuer, self._audience, self._algorithm = issuer, audience, algorithm
        self._key = _read_key(algorithm, key)
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

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
        if len(authorization) != 1 or authorization[0][: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("invalid_request")
        raw = authorization[0][len(_BEARER) :].strip()
        if len(raw) > _MAX_TOKEN_BYTES or not raw.isascii():
            raise Unauthenticated("invalid_token")
        token = raw.decode("ascii")
        now = self._clock()
        kept = self._kept.get(token)
        if kept is not None and now < kept[0]:
            return kept[1]
        identity, expires_at = self._decode(token)
        # A token is kept whole, never by a digest, and never beyond its own expiry.
        self._kept[token] = (min(now + KEPT_SECONDS, expires_at), identity)
        if len(self._kept) > KEPT_TOKENS:
            self._kept.popitem(last=False)
        return identity

    def _decode(self, token: str) -> tuple[Identity, float]:
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[self._algorithm], audience=self._audience, issuer=self._issuer,
                leeway=LEEWAY_SECONDS, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise Unauthenticated("invalid_token") from None
        return _identity(claims), float(claims["exp"])


def _identity(claims: Mapping[str, Any]) -> Identity:
    subject, roles, org = claims.get("sub"), claims.get("roles"), claims.get("org")
    kind, purpose, jti = claims.get("subject_type", "user"), claims.get("purpose_of_use"), claims.get("jti")
    sound = (
        _is_word(subject)
        and (roles is None or _are_words(roles))
        and (org is None or _is_word(org))
        and kind in _SUBJECT_TYPES
        and (purpose is None or _is_word(purpose) or _are_words(purpose))
        and (jti is None or isinstance(jti, str))
    )
    if not sound:
        raise Unauthenticated("invalid_token")
    # A token without roles holds none: the directory must not add to what the issuer said.
    said = SubjectProperties(tuple(roles or ()), org)
    purposes = tuple(purpose) if isinstance(purpose, list) else purpose
    return Identity(Subject(kind, str(subject), said), purposes, jti, _issued_at(claims.get("iat")))


def _issued_at(claim: object) -> Instant | None:
    """Return the instant of an `iat` claim; what is no time (RFC 7519 §2, NumericDate) is none."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not 0 <= claim < _END_OF_TIME:
        return None
    return int(claim * SECOND)


def _is_word(value: object) -> bool:
    # Spaces at an end would be lost in the header that names the subject to the backend, and with them the difference.
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable() and value == value.strip()


def _are_words(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 32 and all(map(_is_word, value))


def _read_key(algorithm: str, key: bytes) -> Any:
    if algorithm == "HS256":
        if len(key) < MIN_SECRET_BYTES:
            raise SettingsError(f"token key: expected a secret of at least {MIN_SECRET_BYTES} bytes for HS256")
        if b"-----BEGIN" in key:
            raise SettingsError("token key: a PEM key is no HS256 secret; set the algorithm to RS256")
        return key
    try:
        loaded = jwt.get_algorithm_by_name(algorithm).prepare_key(key.decode("ascii"))
    except (ValueError, TypeError, jwt.PyJWTError):
        raise SettingsError("token key: expected a public key in PEM for RS256") from None
    if not hasattr(loaded, "verify"):
        raise SettingsError("token key: expected the public key, not the private one")
    return loaded
