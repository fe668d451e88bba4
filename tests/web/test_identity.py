"""Identity is a verified token, or nothing."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ruqsat.core.instant import SECOND
from ruqsat.core.request import Subject, SubjectProperties
from ruqsat.errors import SettingsError
from ruqsat.web.identity import KEPT_SECONDS, TokenVerifier, Unauthenticated
from ruqsat.web.token_keys import OneKey

SECRET = b"a-secret-of-more-than-thirty-two-bytes!"
ISSUER, AUDIENCE = "https://issuer.example", "ruqsat"
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
PRIVATE_PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a sound token; None takes one away."""
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "dr_aida", "exp": int(time.time()) + 300, "roles": ["physician"],
             "org": "h1", "purpose_of_use": "TREAT"} | changes  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def bearer(token: str) -> list[bytes]:
    """The values of the header that carries this token."""
    return [b"Bearer " + token.encode()]


def signed(**changes: Any) -> list[bytes]:
    """A header with a signed token."""
    return bearer(jwt.encode(claims(**changes), SECRET, algorithm="HS256"))


@pytest.fixture
def verifier() -> TokenVerifier:
    """A verifier of HS256 tokens."""
    return TokenVerifier(ISSUER, AUDIENCE, OneKey("HS256", SECRET))


def test_a_sound_token_names_the_subject(verifier: TokenVerifier) -> None:
    """Subject, roles, organisation and purpose come from the claims."""
    identity = verifier.verify(signed(purpose_of_use=["TREAT", "COC"], jti="t-1", subject_type="service"))

    assert identity.subject == Subject("service", "dr_aida", SubjectProperties(("physician",), "h1"))
    assert identity.purpose == ("TREAT", "COC")
    assert identity.jti == "t-1"


@pytest.mark.parametrize(("iat", "instant"), [(1_700_000_000, 1_700_000_000 * SECOND), (1.5, 1_500_000), (None, None)])
def test_a_token_tells_when_it_was_issued(verifier: TokenVerifier, iat: float | None, instant: int | None) -> None:
    """As an instant; a token that does not say is of no age, and never a young one."""
    assert verifier.verify(signed(iat=iat)).issued_at == instant


def test_an_rs256_token_is_verified_with_the_public_key() -> None:
    """A token signed with the private key is accepted, one signed with another is not."""
    verifier = TokenVerifier(ISSUER, AUDIENCE, OneKey("RS256", PUBLIC_PEM))
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    assert verifier.verify(bearer(jwt.encode(claims(), PRIVATE, algorithm="RS256"))).subject.id == "dr_aida"
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer(jwt.encode(claims(), stranger, algorithm="RS256")))


def test_a_token_without_roles_holds_none(verifier: TokenVerifier) -> None:
    """The directory does not add roles to what the issuer said."""
    assert verifier.verify(signed(roles=None)).subject.properties == SubjectProperties((), "h1")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"}, {"iss": None}, {"aud": "other"}, {"aud": None}, {"aud": []}, {"sub": None},
        {"sub": ""}, {"sub": 7}, {"sub": "a\nb"}, {"sub": "x" * 257}, {"exp": None}, {"exp": int(time.time()) - 60},
        {"exp": "soon"}, {"exp": float("inf")}, {"exp": 10**400}, {"nbf": float("inf")}, {"nbf": int(time.time()) + 86_400}, {"iat": float("inf")}, {"iat": int(time.time()) + 86_400}, {"roles": "physician"},
        {"roles": [1]}, {"roles": {"a": 1}}, {"roles": ["x"] * 33}, {"org": ["h1"]}, {"org": ""}, {"purpose_of_use": 3},
        {"purpose_of_use": [None]}, {"subject_type": "admin"}, {"subject_type": 1}, {"jti": 5},
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_token_with_a_wrong_claim_is_refused_whole(verifier: TokenVerifier, changes: dict[str, Any]) -> None:
    """Another issuer or audience, a term that is over, a claim of a wrong type: no identity."""
    with pytest.raises(Unauthenticated, match="invalid_token"):
        verifier.verify(signed(**changes))


def unsigned(header: dict[str, Any], signature: bytes = b"") -> list[bytes]:
    """A token put together by hand."""
    parts = [json.dumps(part).encode() for part in (header, claims())]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (*parts, signature)]
    return [b"Bearer " + b".".join(encoded)]


def test_an_unsigned_token_is_refused(verifier: TokenVerifier) -> None:
    """`none`, in any spelling, is no algorithm."""
    for algorithm in ("none", "None", "NONE", "nOnE", "", "HS384", "ES256"):
        with pytest.raises(Unauthenticated):
            verifier.verify(unsigned({"alg": algorithm, "typ": "JWT"}))


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    """A token signed by HMAC with the public key as its secret is refused."""
    verifier = TokenVerifier(ISSUER, AUDIENCE, OneKey("RS256", PUBLIC_PEM))
    head, body = (
        part.rstrip(b"=") for part in map(base64.urlsafe_b64encode, (b'{"alg":"HS256"}', json.dumps(claims()).encode()))
    )
    mark = base64.urlsafe_b64encode(hmac.digest(PUBLIC_PEM, head + b"." + body, hashlib.sha256)).rstrip(b"=")

    with pytest.raises(Unauthenticated):
        verifier.verify([b"Bearer " + b".".join((head, body, mark))])


def test_every_flipped_character_is_noticed(verifier: TokenVerifier) -> None:
    """No character of a token can be changed."""
    token = jwt.encode(claims(), SECRET, algorithm="HS256")
    verifier.verify(bearer(token))
    for place in range(0, len(token) - 1, 3):
        flipped = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(Unauthenticated):
            verifier.verify(bearer(flipped))


@pytest.mark.parametrize(
    "values",
    [
        [], [b""], [b"Basic YTpi"], [b"Bearer"], [b"Bearer "], [b"Bearer a.b"], [b"Bearer a.b.c.d"], [b"Bearer \xff.x.y"],
        [b"Bearer " + b"a" * 9000], [b"Bearer x", b"Bearer x"], [b"Token x"],
    ],
    ids=repr,
)  # fmt: skip
def test_anything_but_one_bearer_header_is_refused(verifier: TokenVerifier, values: list[bytes]) -> None:
    """No header, two headers, another scheme, or rubbish: no identity."""
    with pytest.raises(Unauthenticated):
        verifier.verify(values)


def test_two_sound_tokens_are_none(verifier: TokenVerifier) -> None:
    """Two headers are refused even if each alone would be accepted."""
    with pytest.raises(Unauthenticated):
        verifier.verify([*signed(), *signed(sub="dana")])


def test_a_kept_token_is_refused_once_its_term_is_over() -> None:
    """Keeping verified tokens does not lengthen their life, not by a moment."""
    moment = time.time()
    clock = [moment]
    verifier = TokenVerifier(ISSUER, AUDIENCE, OneKey("HS256", SECRET), clock=lambda: clock[0])
    short = signed(exp=int(moment) - 2)  # within the leeway of a verification now
    verifier.verify(short)

    assert verifier._kept[short[0]][0] <= int(moment) - 2 + 1e-6
    long = signed(exp=int(moment) + 3600)
    verifier.verify(long)
    assert verifier._kept[long[0]][0] == pytest.approx(moment + KEPT_SECONDS)


def test_a_token_is_kept_once_however_it_is_spelt(verifier: TokenVerifier) -> None:
    """Whoever writes the scheme otherwise, or a space more, is the same, and drives nobody else's token out."""
    (plain,) = signed()
    token = plain.removeprefix(b"Bearer ")

    found = [verifier.verify([each]) for each in (b"bEARER   " + token, plain, b"bearer " + token + b" ", plain)]

    assert all(each is found[0] for each in found)
    assert len(verifier._kept) == 1


@pytest.mark.parametrize("before", [b"Basic ", b"Digest ", b"Bearer", b"", b"Bearer Bearer "])
def test_a_kept_token_is_good_under_its_scheme_alone(verifier: TokenVerifier, before: bytes) -> None:
    """What was accepted as a bearer token is none under another scheme, or under none."""
    (plain,) = signed()
    verifier.verify([plain])

    with pytest.raises(Unauthenticated):
        verifier.verify([before + plain.removeprefix(b"Bearer ")])


@pytest.mark.parametrize(
    "arguments",
    [
        ("", AUDIENCE, "HS256", SECRET), (ISSUER, "", "HS256", SECRET), (ISSUER, AUDIENCE, "HS256", b""),
        (ISSUER, AUDIENCE, "HS256", b"short"), (ISSUER, AUDIENCE, "none", SECRET), (ISSUER, AUDIENCE, "HS512", SECRET),
        (ISSUER, AUDIENCE, "RS256", SECRET), (ISSUER, AUDIENCE, "RS256", PRIVATE_PEM), (ISSUER, AUDIENCE, "HS256", PUBLIC_PEM),
    ],
)  # fmt: skip
def test_unsafe_settings_are_refused(arguments: tuple[str, str, str, bytes]) -> None:
    """Half a configuration, a short secret, another algorithm or the wrong kind of key stops the start."""
    with pytest.raises(SettingsError):
        TokenVerifier(arguments[0], arguments[1], OneKey(*arguments[2:]))
