"""Registered enforcement points: nobody else is answered, and each can do what it is registered for."""

import asyncio
import datetime
import ipaddress
import os
import re
import signal
import ssl
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub

from ruqsat.errors import SettingsError
from ruqsat.web.enforcement_points import Door, EnforcementPoint, Guarded, Peer, read_points
from tests.process.starter import EVALUATION, NotStartedError, Sidecar, question, run_cli, serving
from tests.process.test_degraded import wait_until

SECRET, OTHER = b"a secret of the portal", b"a secret of nobody"
DIGEST = sha256(SECRET).hexdigest()
DUTIES = ("redact", "suppress_total", "require_eds")
PORTAL = f'[portal]\nlisteners = ["json"]\nsecret_sha256 = "{DIGEST}"\nexplain = true\ncapabilities = ["redact"]\n'
CANARY = "canary-51c0"


def points_file(folder: Path, text: str) -> Path:
    """A file of points."""
    file = folder / "points.toml"
    file.write_text(text)
    return file


def test_health_alone_is_told_to_nobody_in_particular() -> None:
    """By its two addresses to the letter, and by none that only begins with them."""
    reached: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        reached.append(scope["path"])

    async def send(_: Any) -> None:
        """Nobody reads what is refused."""

    guarded = Guarded(app, Door((EnforcementPoint(("control",), secret_sha256=DIGEST),)))
    for path in ("/health/live", "/health/ready", "/health/ready/", "/health/../v1/consents", "/health", "/status", ""):
        asyncio.run(guarded({"type": "http", "path": path, "headers": []}, app, send))

    assert reached == ["/health/live", "/health/ready"]


@pytest.mark.parametrize(("entry", "peer", "secrets", "let_in"), [
    ({"secret_sha256": DIGEST}, Peer(), [SECRET], True), ({"secret_sha256": DIGEST}, Peer(), [], False),
    ({"secret_sha256": DIGEST}, Peer(), [OTHER], False), ({"secret_sha256": DIGEST}, Peer(), [SECRET, SECRET], False),
    ({"secret_sha256": DIGEST}, Peer(), [OTHER, SECRET], False), ({"secret_sha256": DIGEST}, Peer(), [b""], False),
    ({"secret_sha256": DIGEST}, Peer(), [DIGEST.encode()], False),
    ({"certificate": ("dns:a", "uri:b")}, Peer(("uri:b",)), [], True), ({"certificate": ("dns:a",)}, Peer(), [], False),
    ({"certificate": ("dns:a",)}, Peer(("uri:a", "dns:a.b")), [], False),
    ({"uid": (7,)}, Peer(uid=7), [], True), ({"uid": (7,)}, Peer(uid=0), [], False), ({"uid": (7,)}, Peer(), [], False),
    ({"uid": (7,), "secret_sha256": DIGEST}, Peer(uid=7), [SECRET], True),
    ({"uid": (7,), "secret_sha256": DIGEST}, Peer(uid=7), [], False),
    ({"uid": (7,), "secret_sha256": DIGEST}, Peer(), [SECRET], False),
])  # fmt: skip
def test_every_proof_of_the_entry_must_hold(entry: Any, peer: Peer, secrets: list[bytes], let_in: bool) -> None:
    """One secret, sent once; a name of the certificate, of the right kind; the user that the kernel tells."""
    door = Door((EnforcementPoint(("json",), name="portal", **entry),))

    assert (door.find(peer, secrets) is not None) is let_in


@pytest.mark.parametrize("text", [
    "", "x = 1", "[p]", '[p]\nlisteners = []\nuid = [1]', '[p]\nlisteners = ["json"]', '[p]\nlisteners = ["web"]\nuid = [1]',
    f'[p]\nlisteners = ["json"]\nsecret_sha256 = "{CANARY}"', f'[p]\nlisteners = ["json"]\nsecret_sha256 = "{DIGEST.upper()}"',
    f'[p]\nlisteners = ["json"]\ncertificate = ["{CANARY}"]', '[p]\nlisteners = ["json"]\nuid = ["root"]',
    f'[p]\nlisteners = ["json"]\nuid = [1]\n{CANARY.replace("-", "_")} = true', '[p]\nlisteners = ["grpc"]\nuid = [1]',
    f'[p]\nlisteners = ["json"]\nuid = [1]\ncapabilities = ["{CANARY}"]', '[p]\nlisteners = ["auth"]\nuid = [1]\nexplain = true',
    '[p]\nlisteners = ["json", "auth"]\nuid = [1]\ncapabilities = ["redact"]', '[p]\nlisteners = ["json"]\nuid = [1]\nname = "q"',
    "[p", "\x00",
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_and_repeats_no_value(text: str, tmp_path: Path) -> None:
    """Nobody is let in by a typing mistake, and a secret does not get into an error."""
    with pytest.raises(SettingsError) as told:
        read_points(points_file(tmp_path, text), DUTIES)
    assert CANARY not in str(told.value)


def test_no_file_is_no_points(tmp_path: Path) -> None:
    """Without a file there are no registered points; a file that is named and missing is an error."""
    assert not read_points(None, DUTIES).is_guarded("json")
    with pytest.raises(SettingsError):
        read_points(tmp_path / "nothing", DUTIES)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar whose JSON, forward-auth and control listeners have registered points."""
    folder = tmp_path_factory.mktemp("points")
    proxy = f'[proxy]\nlisteners = ["auth", "control", "grpc"]\nsecret_sha256 = "{DIGEST}"\n'
    plain = f'[plain]\nlisteners = ["json"]\nsecret_sha256 = "{sha256(b"plain").hexdigest()}"\n'
    with serving(folder, enforcement_points=str(points_file(folder, PORTAL + proxy + plain))) as process:
        yield process


def test_the_json_listener_answers_registered_points_only(guarded: Sidecar) -> None:
    """401 for anybody else, on every path; the point's name stands in the journal."""
    asked = question()

    assert guarded.evaluate(asked, **{"x-ruqsat-secret": SECRET.decode()}).json()["decision"] is True
    for headers in ({}, {"x-ruqsat-secret": OTHER.decode()}, {"X-Ruqsat-Secret": "", "authorization": SECRET.decode()}):
        answer = guarded.evaluate(asked, **headers)
        assert (answer.status_code, "www-authenticate" in answer.headers) == (401, True)
    journal = b"".join(path.read_bytes() for path in guarded.journal.iterdir() if path.is_file())
    assert b'"point":"portal"' in journal and SECRET not in journal


def test_a_point_sees_and_can_do_what_it_is_registered_for(guarded: Sidecar) -> None:
    """Exact reasons and duties are of the one point, not of the other; a request only narrows."""
    told = guarded.evaluate(question(), **{"x-ruqsat-secret": SECRET.decode()}).json()
    untold = guarded.evaluate(question(), **{"x-ruqsat-secret": "plain"}).json()

    assert "explain" in told["context"] and "explain" not in untold["context"]
    assert told["decision"] is untold["decision"] is True


def test_the_other_listeners_are_guarded_too(guarded: Sidecar) -> None:
    """Forward-auth says 403; the control listener 401, but tells its health to whoever watches."""
    truth = {"x-original-method": "GET", "x-original-uri": "/patients/p-dana/labs/o1", "x-original-host": "h"}
    who = guarded.bearer("dr_aida") | truth
    secret = {"x-ruqsat-secret": SECRET.decode()}

    assert guarded.call("auth", "GET", "/authz/nginx", headers=who | secret).status_code == 200
    assert guarded.call("auth", "GET", "/authz/nginx", headers=who).status_code == 403
    assert guarded.call("control", "GET", "/status", headers=secret).status_code == 200
    assert guarded.call("control", "GET", "/status").status_code == 401
    assert guarded.call("control", "GET", "/metrics").status_code == 401
    assert (
        guarded.call("control", "POST", "/v1/consents/c-dana-h1/withdraw", headers=guarded.bearer("dana")).status_code
        == 401
    )
    assert guarded.call("control", "GET", "/health/ready").status_code == 200
    asked = guarded.call("control", "GET", "/v1/consents?patient=p-dana", headers=guarded.bearer("dana") | secret)
    journal = b"".join(path.read_bytes() for path in guarded.journal.iterdir() if path.is_file())
    assert asked.status_code == 200 and re.search(rb'"listener":"control"[^\n]*"point":"proxy"', journal)


def test_the_kernel_says_who_is_behind_a_unix_socket(tmp_path: Path) -> None:
    """Our own user is let in; with another user registered, we are not."""
    for uid, status in ((os.getuid(), 200), (os.getuid() + 1, 401)):
        folder = tmp_path / str(uid)
        folder.mkdir()
        file = points_file(folder, f'[app]\nlisteners = ["json"]\nuid = [{uid}]\n')
        with serving(folder, enforcement_points=str(file), json_listen=f"unix:{folder}/ask.sock") as sidecar:
            assert sidecar.evaluate(question()).status_code == status


class Authority:
    """A certificate authority of a test's own, and certificates signed by it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._signed(self.name, self.key, None).public_bytes(serialization.Encoding.PEM))

    def _signed(self, subject: x509.Name, key: Any, names: list[x509.GeneralName] | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        )  # fmt: skip
        if names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._signed(subject, key, list(names)).public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))  # fmt: skip
        return certificate, private


def test_certificates_are_verified_and_named(tmp_path: Path) -> None:
    """Signed by the authority and with a name on the list: answered.  Else 401, or no connection at all; gRPC alike."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = ours.issue(
        "sidecar", x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    )
    envoy = ours.issue("envoy", x509.UniformResourceIdentifier("spiffe://hospital/envoy"))
    other = ours.issue("other", x509.UniformResourceIdentifier("spiffe://hospital/other"))
    forged = theirs.issue("forged", x509.UniformResourceIdentifier("spiffe://hospital/envoy"))
    file = points_file(
        tmp_path,
        '[envoy]\nlisteners = ["json", "grpc", "control", "auth"]\ncertificate = ["uri:spiffe://hospital/envoy"]\n',
    )
    settings = {"tls_certificate": str(certificate), "tls_key": str(key), "tls_client_ca": str(ours.file),
                "enforcement_points": str(file), "grpc_listen": "127.0.0.1:0"}  # fmt: skip

    def asked(pair: tuple[Path, Path] | None) -> int:
        context = ssl.create_default_context(cafile=str(ours.file))
        if pair is not None:
            context.load_cert_chain(*map(str, pair))
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.post(f"https://{sidecar.addresses['json']}{EVALUATION}", json=question()).status_code

    async def checked(pair: tuple[Path, Path] | None) -> int:
        own = (None, None) if pair is None else (pair[1].read_bytes(), pair[0].read_bytes())
        credentials = grpc.ssl_channel_credentials(ours.file.read_bytes(), *own)
        async with grpc.aio.secure_channel(sidecar.addresses["grpc"], credentials) as channel:
            asked = CheckRequest()
            asked.attributes.request.http.method, asked.attributes.request.http.path = "GET", "/directory"
            asked.attributes.request.http.host = "h"
            return int((await AuthorizationStub(channel).Check(asked, timeout=10)).denied_response.status.code)

    with serving(tmp_path, **settings) as sidecar:
        assert (asked(envoy), asked(other)) == (200, 401)
        for pair in (None, forged):
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                asked(pair)
            with pytest.raises(grpc.aio.AioRpcError):
                asyncio.run(checked(pair))
        # Who is registered is asked for a token; who is not is no enforcement point.
        assert (asyncio.run(checked(envoy)), asyncio.run(checked(other))) == (401, 403)


def test_a_renewed_certificate_is_shown_after_a_signal_and_a_spoilt_one_never(tmp_path: Path) -> None:
    """HTTP and gRPC alike, and no connection is cut; a key that is not the certificate's, or none, leaves what was shown."""
    ours = Authority(tmp_path, "ours")
    names = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate, key = ours.issue("sidecar", *names)
    first = certificate.read_text()
    settings = {"tls_certificate": str(certificate), "tls_key": str(key), "grpc_listen": "127.0.0.1:0"}

    def shown(listener: str) -> str:
        host, port = sidecar.addresses[listener].split(":")
        return ssl.get_server_certificate((host, int(port)), ca_certs=str(ours.file))

    def signal_until(line: str, times: int) -> None:
        sidecar.send_signal(signal.SIGHUP)
        wait_until(lambda: sidecar.stderr.count(line) == times)

    def is_live() -> bool:
        open_before.request("GET", "/health/live")
        answer = open_before.getresponse()
        return (answer.status, answer.read()) == (200, b'{"status":"live"}')

    with serving(tmp_path, **settings) as sidecar:
        context = ssl.create_default_context(cafile=str(ours.file))
        with closing(HTTPSConnection(sidecar.addresses["control"], timeout=10, context=context)) as open_before:
            assert is_live()
            for times in (1, 2):
                ours.issue("sidecar", *names)
                assert shown("json") != certificate.read_text()
                signal_until("certificate_read_again", times)
            second = certificate.read_text()
            assert [shown(each) for each in ("json", "auth", "control", "grpc", "grpc")] == [second] * 5

            certificate.write_text(first)
            signal_until("certificate_not_renewed", 1)
            key.write_text("")
            signal_until("certificate_not_renewed", 2)
            assert [shown("json"), shown("grpc")] == [second] * 2
            assert is_live()


@pytest.mark.parametrize(("settings", "told"), [
    ({"json_listen": "0.0.0.0:0"}, "RUQSAT_JSON_LISTEN"), ({"control_listen": "0.0.0.0:0"}, "RUQSAT_CONTROL_LISTEN"),
    ({"grpc_listen": "0.0.0.0:0"}, "RUQSAT_GRPC_LISTEN"), ({"tls_key": "x"}, "half configured"),
    ({"tls_certificate": "x", "tls_key": "y"}, "no such file"),
])  # fmt: skip
def test_no_listener_is_open_to_strangers_of_other_machines(
    settings: dict[str, str], told: str, tmp_path: Path
) -> None:
    """Without a registered point a listener is loopback or a Unix socket, or there is no start."""
    with pytest.raises(NotStartedError, match=told), serving(tmp_path, **settings):
        pass


def test_a_point_by_certificate_needs_tls(tmp_path: Path) -> None:
    """An entry that could never be proven is a mistake, not a closed door."""
    file = points_file(tmp_path, '[envoy]\nlisteners = ["json"]\ncertificate = ["dns:envoy"]\n')

    with pytest.raises(NotStartedError, match="CLIENT_CA"), serving(tmp_path, enforcement_points=str(file)):
        pass
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("sidecar", x509.DNSName("localhost"))
    unix = {"json_listen": f"unix:{tmp_path}/ask.sock", "tls_client_ca": str(ours.file)}
    tls = {"tls_certificate": str(certificate), "tls_key": str(key), "enforcement_points": str(file)}
    with pytest.raises(NotStartedError, match="need TCP"), serving(tmp_path, **unix | tls):
        pass


def test_nobody_is_registered_where_tests_decide_what_is_true(tmp_path: Path) -> None:
    """A JSON listener that takes fixtures answers whoever reaches it: a door that does not close is refused."""
    file = points_file(tmp_path, '[app]\nlisteners = ["json"]\nuid = [0]\n')

    done = run_cli(tmp_path, "serve", "--test-fixtures", enforcement_points=str(file))
    assert (done.returncode, "register none there" in done.stderr) == (2, True)
