"""Keys that the issuer publishes: rotated without a pause, withdrawn within minutes, never of a kind that was not meant."""

import asyncio
import json
import threading
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ruqsat.web.identity import TokenVerifier, Unauthenticated
from ruqsat.web.token_keys import (
    AGAIN_SECONDS,
    MAX_AGE_SECONDS,
    MAX_DOCUMENT_BYTES,
    PublishedKeys,
    fetch_document,
    read_key_set,
)
from tests.proxies.raw import ask, bearer
from tests.sidecar import AUDIENCE, ISSUER, Sidecar, running_sidecar

RSA_KEY, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
ALL = ("RS256", "PS256", "ES256", "EdDSA")
_WRITERS = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}


def weak_token() -> list[bytes]:
    """A token signed with a key that is too short, which PyJWT warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return token(SMALL_RSA, "RS256")


def jwk(kind: str, key: Any, kid: str | None = "k1", **more: Any) -> dict[str, Any]:
    """The public half of a key, as the issuer publishes it."""
    written = _WRITERS[kind].to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in (written | {"kid": kid} | more).items() if value is not None}


def token(key: Any, algorithm: str, kid: str | None = "k1", **claims: Any) -> list[bytes]:
    """A signed token, as the header holds it."""
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "dr_aida", "exp": int(time.time()) + 300, "roles": ["physician"]}
    headers = {} if kid is None else {"kid": kid}
    return [b"Bearer " + jwt.encode(usual | claims, key, algorithm=algorithm, headers=headers).encode()]


class Issuer:
    """Publishes what it is told, or fails; time is a number."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.document: Any = {"keys": list(keys)}
        self.asked = 0
        self.now = 1000.0
        self.keys = PublishedKeys(self.fetch, clock=lambda: self.now)
        self.verifier = TokenVerifier(ISSUER, AUDIENCE, self.keys)

    async def fetch(self) -> Any:
        """Answer."""
        self.asked += 1
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def accepts(self, authorization: list[bytes]) -> bool:
        """Tell whether a token is accepted."""
        try:
            return asyncio.run(self.verifier.identify(authorization)).subject.id == "dr_aida"
        except Unauthenticated:
            return False


@pytest.mark.parametrize(("kind", "key", "algorithm"), [
    ("RSA", RSA_KEY, "RS256"), ("RSA", RSA_KEY, "PS256"), ("EC", EC_KEY, "ES256"), ("OKP", ED_KEY, "EdDSA"),
])  # fmt: skip
def test_a_published_key_verifies_tokens_of_its_own_kind(kind: str, key: Any, algorithm: str) -> None:
    """By its name, or without one where there is a single key; by another name it does not."""
    issuer = Issuer(jwk(kind, key))

    assert issuer.accepts(token(key, algorithm))
    assert issuer.accepts(token(key, algorithm, kid=None))
    assert not issuer.accepts(token(key, algorithm, kid="k2"))


@pytest.mark.parametrize(("published", "forged"), [
    (jwk("RSA", RSA_KEY), token(OTHER_RSA, "RS256")),
    (jwk("RSA", RSA_KEY), token(RSA_KEY, "RS512")),
    (jwk("RSA", RSA_KEY, alg="RS256"), token(RSA_KEY, "PS256")),
    (jwk("RSA", RSA_KEY), token("s" * 32, "HS256")),
    (jwk("RSA", RSA_KEY), token("", "none")),
    (jwk("RSA", RSA_KEY, use="enc"), token(RSA_KEY, "RS256")),
    (jwk("RSA", RSA_KEY, key_ops=["encrypt"]), token(RSA_KEY, "RS256")),
    (jwk("RSA", RSA_KEY, key_ops=7), token(RSA_KEY, "RS256")),
    (jwk("RSA", SMALL_RSA), weak_token()),
    (jwk("EC", P384), token(P384, "ES384")),
    ({"kty": "oct", "k": "cyBzIHMgcyBzIHMgcyBzIHMgcyBzIHMgcyBzIHMgcyA", "kid": "k1"}, token("s " * 16, "HS256")),
    (json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY)) | {"kid": "k1"}, token(RSA_KEY, "RS256")),
    (json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY)) | {"kid": "k1", "key_ops": None}, token(RSA_KEY, "RS256")),
    (json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY)) | {"kid": "k1"}, token(EC_KEY, "ES256")),
])  # fmt: skip
def test_a_key_of_another_kind_use_or_size_verifies_nothing(published: dict[str, Any], forged: list[bytes]) -> None:
    """No secret from a set, no weak key, no private one, no algorithm that a key or the list does not name."""
    assert not Issuer(published).accepts(forged)


@pytest.mark.parametrize("odd", [{"key_ops": None, "use": None, "alg": None}, {"key_ops": 7}])
def test_a_strange_key_keeps_no_other_out_and_none_in(odd: dict[str, Any]) -> None:
    """What is null is left out; a set that were not read for one key's sake would keep alive the key withdrawn from it."""
    listed = {"keys": [jwk("EC", EC_KEY, "k1") | odd, jwk("EC", EC_KEY, "k2")]}

    assert set(read_key_set(listed, ALL)) == ({"k2"} if odd["key_ops"] else {"k1", "k2"})
    issuer = Issuer(jwk("RSA", RSA_KEY))
    assert issuer.accepts(token(RSA_KEY, "RS256"))
    issuer.document = listed
    issuer.now += AGAIN_SECONDS
    asyncio.run(issuer.keys.refresh())
    assert not issuer.accepts(token(RSA_KEY, "RS256")) and issuer.accepts(token(EC_KEY, "ES256", "k2"))


def test_the_list_of_algorithms_narrows() -> None:
    """A key whose algorithms are all off the list is not there."""
    listed = {"keys": [jwk("RSA", RSA_KEY), jwk("EC", EC_KEY, "k2")]}

    assert set(read_key_set(listed, ("ES256",))) == {"k2"}
    assert read_key_set(listed, ("PS256",))["k1"][0] == ("PS256",)


@pytest.mark.parametrize("document", [
    None, [], {}, {"keys": {}}, {"keys": [jwk("RSA", RSA_KEY), jwk("EC", EC_KEY)]}, {"keys": [jwk("RSA", RSA_KEY)] * 101},
    {"keys": [jwk("RSA", RSA_KEY, kid=7)]},  # type: ignore[arg-type]
])  # fmt: skip
def test_a_set_that_cannot_be_read_is_refused_whole(document: Any) -> None:
    """No list, too many, two by one name."""
    with pytest.raises(ValueError, match="expected"):
        read_key_set(document, ALL)


def test_keys_that_are_broken_or_unknown_are_passed_over() -> None:
    """Of a published set the keys that cannot be used are passed over, and the others still work."""
    good = jwk("RSA", RSA_KEY)
    odd: list[Any] = [
        7,
        {"kty": "RSA", "kid": "b"},
        {"kty": "X", "kid": "c"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "d"},
    ]

    assert set(read_key_set({"keys": [*odd, good]}, ALL)) == {"k1"}


def test_a_new_key_is_found_when_its_first_token_comes() -> None:
    """And not asked for again and again: a stranger's tokens do not make us ask at their rate."""
    issuer = Issuer(jwk("RSA", RSA_KEY))
    assert issuer.accepts(token(RSA_KEY, "RS256"))
    issuer.document = {"keys": [jwk("RSA", RSA_KEY), jwk("EC", EC_KEY, "k2")]}
    issuer.now += AGAIN_SECONDS

    assert issuer.accepts(token(EC_KEY, "ES256", kid="k2"))
    asked = issuer.asked
    for number in range(50):
        assert not issuer.accepts(token(EC_KEY, "ES256", kid=f"made-up-{number}"))
    assert issuer.asked == asked


def test_a_key_that_left_the_set_verifies_nothing_any_more() -> None:
    """Nor does a token live on that was accepted before."""
    issuer = Issuer(jwk("RSA", RSA_KEY), jwk("EC", EC_KEY, "k2"))
    old = token(RSA_KEY, "RS256")
    assert issuer.accepts(old) and issuer.accepts(old)
    issuer.document = {"keys": [jwk("EC", EC_KEY, "k2")]}
    issuer.now += AGAIN_SECONDS
    asyncio.run(issuer.keys.refresh())

    assert not issuer.accepts(old)
    assert issuer.accepts(token(EC_KEY, "ES256", kid="k2"))


@pytest.mark.parametrize("trouble", [RuntimeError("away"), {"keys": 7}, None, {"keys": [jwk("RSA", RSA_KEY)] * 2}])
def test_known_keys_stay_while_the_issuer_is_away_but_not_for_ever(trouble: Any) -> None:
    """A day, and no token is accepted any more, be it one that was a moment ago."""
    issuer = Issuer(jwk("RSA", RSA_KEY))
    assert not issuer.keys.are_known
    assert issuer.accepts(token(RSA_KEY, "RS256"))
    issuer.document = trouble
    issuer.now += MAX_AGE_SECONDS - 1
    asyncio.run(issuer.keys.refresh())
    assert issuer.keys.failures == 1
    assert issuer.accepts(token(RSA_KEY, "RS256", jti="2"))
    assert issuer.keys.are_known
    issuer.now += 2
    assert not issuer.accepts(token(RSA_KEY, "RS256", jti="3"))
    assert not issuer.accepts(token(RSA_KEY, "RS256", jti="2"))
    assert not issuer.keys.are_known


def test_an_issuer_that_publishes_no_key_of_ours_is_as_one_that_is_away() -> None:
    """Fetched is not enough: of a set in which nothing can be used, no token can be verified."""
    issuer = Issuer(jwk("RSA", SMALL_RSA))
    assert not issuer.accepts(token(RSA_KEY, "RS256"))
    assert issuer.keys.are_usable
    assert not issuer.keys.are_known


def test_many_who_wait_for_one_key_are_all_let_in_by_one_question() -> None:
    """Whoever waited while another asked profits by the answer."""
    issuer = Issuer(jwk("RSA", RSA_KEY))

    async def all_at_once() -> list[Any]:
        tokens = [token(RSA_KEY, "RS256", jti=str(number)) for number in range(20)]
        return await asyncio.gather(*map(issuer.verifier.identify, tokens))

    assert len(asyncio.run(all_at_once())) == 20
    assert issuer.asked == 1


class Published(BaseHTTPRequestHandler):
    """An issuer's server: answers by the path."""

    keys: list[dict[str, Any]] = []  # noqa: RUF012 - exchanged by the tests
    is_away = False

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(302 if self.path == "/moved" else 503 if self.is_away else 200)
        self.send_header("Location", "/keys")
        body = b"x" * (MAX_DOCUMENT_BYTES + 1) if self.path == "/large" else json.dumps({"keys": self.keys}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def published() -> Iterator[str]:
    """The address of an issuer's server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Published)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_document_comes_from_its_own_address_and_is_bounded(published: str) -> None:
    """A redirection is not followed; too large a one is not read on."""
    assert asyncio.run(fetch_document(f"{published}/keys")) == {"keys": Published.keys}
    for path in ("/moved", "/large"):
        with pytest.raises(ValueError, match="expected"):
            asyncio.run(fetch_document(published + path))


@pytest.mark.slow
def test_a_sidecar_without_the_issuers_keys_is_not_ready_until_it_has_them(published: str, tmp_path: Path) -> None:
    """It starts and says why; where no proxy asks it is ready all the same; and once it has them the issuer may go away."""
    Published.keys, Published.is_away = [jwk("RSA", RSA_KEY)], True
    settings = {"token_jwks_url": f"{published}/keys", "token_key": "", "token_algorithm": "RS256"}

    def readiness(sidecar: Sidecar) -> tuple[int, list[str]]:
        answer = ask(sidecar.ports["control"], "GET", "/health/ready")
        return answer.status, json.loads(answer.body).get("reasons")

    try:
        with running_sidecar(tmp_path / "control-alone", **settings, auth_listen="off") as sidecar:
            assert readiness(sidecar) == (200, None)
        with running_sidecar(tmp_path / "forward-auth", **settings) as sidecar:
            assert readiness(sidecar) == (503, ["no keys of the token issuer: no bearer token can be verified"])
            Published.is_away = False
            deadline = time.monotonic() + 5 * AGAIN_SECONDS
            while readiness(sidecar) != (200, None):
                assert time.monotonic() < deadline, "the keys came and it never was ready"
                time.sleep(0.2)
            Published.is_away = True
            stranger = token(OTHER_RSA, "RS256", "k9")[0][7:].decode()
            assert ask(sidecar.ports["auth"], "GET", "/authz/nginx", bearer(stranger)).status != 200
            assert readiness(sidecar) == (200, None)
    finally:
        Published.is_away = False


@pytest.mark.slow
def test_a_real_sidecar_follows_a_rotation(published: str, tmp_path: Path) -> None:
    """The first key, then the second, without a restart; a stranger's never."""
    Published.keys = [jwk("RSA", RSA_KEY)]
    truth = ("X-Original-Method: GET", "X-Original-URI: /patients/p-dana/labs/o1", "X-Original-Host: records.example")
    settings = {"token_jwks_url": f"{published}/keys", "token_key": "", "token_algorithm": "RS256"}

    def status(key: Any, algorithm: str, kid: str) -> int:
        (header,) = token(key, algorithm, kid, org="h1", purpose_of_use="TREAT")
        return ask(sidecar.ports["auth"], "GET", "/authz/nginx", *truth, bearer(header[7:].decode())).status

    with running_sidecar(tmp_path, **settings) as sidecar:
        assert status(RSA_KEY, "RS256", "k1") == 200
        assert status(OTHER_RSA, "RS256", "k1") == 401
        Published.keys = [jwk("EC", EC_KEY, "k2")]
        deadline = time.monotonic() + 5 * AGAIN_SECONDS
        while status(EC_KEY, "ES256", "k2") != 200:
            assert time.monotonic() < deadline, "the new key was never accepted"
            time.sleep(0.5)
        assert status(RSA_KEY, "RS256", "k1") == 401
