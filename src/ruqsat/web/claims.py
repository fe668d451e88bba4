"""
What a verified token says: claims → an identity, whole or not at all.

Plain claims (``sub``, ``roles``, ``org``, ``purpose_of_use``, ``subject_type``) or those of
IHE IUA (``extensions.ihe_iua``); SMART scopes and the patient that an application was
started for, which narrow; and the chain of those who act for the subject (``act``, RFC 8693).
"""

from collections.abc import Mapping
from math import inf
from typing import Any

from msgspec import Struct

from ruqsat.core.identification import is_identification_number
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.request import Subject, SubjectProperties

MAX_ACTORS = 4
MAX_SCOPES = 64
_YEAR_3000 = 32_503_680_000
_SUBJECT_TYPES = ("user", "patient", "service")
_ROLES = {
    "doctor": "physician", "nurse": "nurse", "pharmacist": "pharmacist", "researcher": "researcher",
    "ONESELF": "patient", "GUARD": "legal_representative", "PRN": "legal_representative",
    "POWATT": "legal_representative",
}  # fmt: skip
"""Codes of HL7 (practitioner-role, v3-RoleCode) as our roles; a code that is not here is taken for a role of ours."""


class Identity(Struct, frozen=True):
    """
    A verified caller.

    Attributes:
        purpose: The purposes that its token states.
        jti: The token's own id (RFC 7519 §4.1.7); for the journal.
        smart_scopes: SMART scopes; None for a caller that is no SMART application.
        launch_patient: The patient that a SMART application was started for.
        actors: Who acts for the subject, the present one first; for the journal.
        auth_time: When it proved by several factors who it is, in seconds since 1970 (OpenID Connect;
            ``amr`` of RFC 8176); None if the token does not say so.
        issued_at: When its token was issued, if it says so.
        good_until: Until when its token is accepted, in seconds since 1970; whoever verifies it says so.
        iin: Its individual identification number, if the token says it (``iin``); it leaves this process nowhere.
    """

    subject: Subject
    purpose: str | tuple[str, ...] | None = None
    jti: str | None = None
    smart_scopes: tuple[str, ...] | None = None
    launch_patient: str | None = None
    actors: tuple[str, ...] = ()
    auth_time: int | None = None
    issued_at: Instant | None = None
    iin: str | None = None
    good_until: float = inf


class BadClaimsError(Exception):
    """A claim has not the type or the size that it must have."""


def read_identity(claims: Mapping[str, Any]) -> Identity:
    """
    Return the identity behind verified claims.

    Raises:
        BadClaimsError: a claim is not as expected, or two ways of saying a thing disagree.
    """
    iua = _iua(claims)
    said = SubjectProperties(
        # A token without roles holds none: the directory must not add to what the issuer said.
        _agreed(_words(claims.get("roles")), _codes(iua.get("subject_role"), _ROLES)) or (),
        _agreed(_word_or_none(claims.get("org")), _word_or_none(iua.get("subject_organization_id"))),
    )
    kind, purpose = claims.get("subject_type", "user"), claims.get("purpose_of_use")
    if kind not in _SUBJECT_TYPES:
        raise BadClaimsError
    stated = _word(purpose) if isinstance(purpose, str) else _words(purpose)
    return Identity(
        Subject(kind, _word(claims.get("sub")), said),
        _agreed(stated, _codes(iua.get("purpose_of_use"), {})),
        _word_or_none(claims.get("jti")),
        _smart_scopes(claims.get("scope")),
        _word_or_none(claims.get("patient")),
        _actors(claims.get("act")),
        _stepped_up_at(claims),
        _issued_at(claims.get("iat")),
        _number_or_none(claims.get("iin")),
    )


def _iua(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    extensions = claims.get("extensions", {})
    iua = extensions.get("ihe_iua", {}) if isinstance(extensions, dict) else None
    if not isinstance(iua, dict):
        raise BadClaimsError
    return iua


def _agreed(plain: Any, coded: Any) -> Any:
    """Return what is said, once or twice alike."""
    if plain is not None and coded is not None and plain not in (coded, *(coded if len(coded) == 1 else ())):
        raise BadClaimsError
    return plain if plain is not None else coded


def _codes(value: object, known: Mapping[str, str]) -> tuple[str, ...] | None:
    """Read a list of Codings (or one) as words."""
    if value is None:
        return None
    listed = value if isinstance(value, list) else [value]
    words = _words([each.get("code") if isinstance(each, dict) else None for each in listed])
    return tuple(dict.fromkeys(known.get(word, word) for word in words or ()))


def _smart_scopes(scope: object) -> tuple[str, ...] | None:
    """Return the scopes of a SMART application; others' (``openid`` …) are none and make no such application."""
    listed = scope.split() if isinstance(scope, str) else scope
    if listed is None:
        return None
    if not isinstance(listed, list) or len(listed) > MAX_SCOPES or not all(isinstance(each, str) for each in listed):
        raise BadClaimsError
    smart = tuple(each for each in listed if each.startswith(("patient/", "user/", "system/")))
    return tuple(listed) if smart or "launch" in " ".join(listed) else None


def _actors(act: object) -> tuple[str, ...]:
    actors: list[str] = []
    while act is not None:
        if not isinstance(act, dict) or len(actors) == MAX_ACTORS:
            raise BadClaimsError
        actors.append(_word(act.get("sub")))
        act = act.get("act")
    return tuple(actors)


def _issued_at(claim: object) -> Instant | None:
    """Return the instant of an `iat` claim; what is no time (RFC 7519 §2, NumericDate) is none."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not 0 <= claim < _YEAR_3000:
        return None
    return int(claim * SECOND)


def _stepped_up_at(claims: Mapping[str, Any]) -> int | None:
    methods, at = claims.get("amr"), claims.get("auth_time")
    is_moment = isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < _YEAR_3000
    return int(at) if isinstance(methods, list) and "mfa" in methods and is_moment and at is not None else None


def _word(value: object) -> str:
    # Spaces at an end would be lost in the header that names the subject to the backend, and with them the difference.
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable() or value != value.strip():
        raise BadClaimsError
    return value


def _word_or_none(value: object) -> str | None:
    return None if value is None else _word(value)


def _number_or_none(value: object) -> str | None:
    """Return an identification number; a text that is none names nobody."""
    if not (value is None or isinstance(value, str)):
        raise BadClaimsError
    return value if value is not None and is_identification_number(value) else None


def _words(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > 32:
        raise BadClaimsError
    return tuple(map(_word, value))
