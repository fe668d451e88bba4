"""The verifier of signatures: what holds, and that nothing else does."""

import random
import shutil
import subprocess
from base64 import encodebytes
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core.signature_finding import CLOCK_TOLERANCE, FAILURES, Finding, SignedContent
from ruqsat.signatures import chain, cms_verifier
from ruqsat.signatures.cms_verifier import CmsVerifier
from ruqsat.signatures.trust import Trust
from tests.registry.documents import BIN, OWNER
from tests.signatures.bad import BAD, Bad, good_ess, key_identifier, through_ec
from tests.signatures.der import algorithm, seq, set_of, tlv
from tests.signatures.pki import (
    DOCUMENT,
    PSS,
    RECEIVED,
    SHA256,
    SHA384,
    SHA512,
    SIGNED,
    SIGNING_TIME,
    Cms,
    attribute,
    authority,
    ec_key,
    ec_root,
    instant,
    middle,
    organisation,
    person,
    pss_parameters,
    root,
    rsa_key,
    signer,
    trust,
)

VERIFIER = CmsVerifier(trust())
WHOLE = SignedContent(DOCUMENT)


def found(signature: bytes, content: SignedContent = WHOLE, verifier: CmsVerifier = VERIFIER) -> Finding:
    """Return what is found of a signature that is handed in at once."""
    return verifier.verify(signature, content, instant(RECEIVED))


GOOD: dict[str, Callable[[], bytes]] = {
    "rsa": lambda: Cms().der(),
    "rsa, sha384": lambda: Cms(hash_=SHA384).der(),
    "rsa, sha512": lambda: Cms(hash_=SHA512).der(),
    "rsa, named with its hash": lambda: Cms(signature_algorithm=algorithm("1.2.840.113549.1.1.11")).der(),
    "hash without parameters": lambda: Cms(digest_algorithm=algorithm(SHA256, b"")).der(),
    "pss": lambda: Cms(pss=32, signature_algorithm=algorithm(PSS, pss_parameters())).der(),
    "pss, longer salt": lambda: Cms(pss=64, signature_algorithm=algorithm(PSS, pss_parameters(salt=64))).der(),
    "ecdsa": through_ec,
    "named by its key": key_identifier,
    "with its signing certificate": good_ess,
    "root sent along": lambda: Cms(certificates=[root().der, middle().der, signer().der]).der(),
    "with unsigned attributes": lambda: Cms(unsigned=tlv(0xA1, attribute("1.2.3", seq()))).der(),
    "with further signed attributes": lambda: Cms(extra=[attribute("1.2.3", seq()), attribute("1.2.4")]).der(),
    "time of another kind": lambda: Cms(replaced={SIGNING_TIME: attribute(SIGNING_TIME, tlv(0x18, b"20260401040000Z"))}).der(),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_signature_is_verified_and_tells_who_signed_what_and_when(name: str) -> None:
    """Against the document, its hash, or both; in DER and in PEM."""
    der = GOOD[name]()
    finding = found(der)
    pem = b"-----BEGIN CMS-----\n" + encodebytes(der) + b"-----END CMS-----\n"
    digest = bytes.fromhex(finding.digest or "")

    assert (finding.failure, finding.iin, finding.bin, finding.signed_at) == (None, OWNER, None, instant(SIGNED))
    assert (
        found(pem) == found(der, SignedContent(digest=digest)) == found(der, SignedContent(DOCUMENT, digest)) == finding
    )


def test_a_certificate_of_an_organisation_says_so() -> None:
    """Its holder's number and the organisation's; a person's own has none; what is no number names nobody."""
    finding = found(Cms(by=organisation()).der())

    assert (finding.failure, finding.iin, finding.bin, finding.serial) == (None, "880808100309", BIN, "5150")
    assert found(Cms(by=person(parts={"serial": "880808100001"})).der()).iin is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_signature_fails_with_its_code_and_tells_nothing_else(name: str) -> None:
    """Each in its own way; what the certificate claims is not passed on."""
    bad = BAD[name]
    finding = VERIFIER.verify(bad.make(), bad.content, instant(bad.at))

    assert finding == Finding(bad.code)
    assert bad.code in FAILURES


def test_every_bad_signature_differs_from_a_good_one() -> None:
    """The table is no table of typing errors: there are many, and most codes are met."""
    assert len(BAD) > 100
    assert {bad.code for bad in BAD.values()} >= FAILURES.keys() - {
        "certificate_differs", "other_time", "wrong_signer", "revoked", "revocation_unknown", "verifier_failed",
    }  # fmt: skip


def test_without_a_root_nothing_is_trusted() -> None:
    """No trust store is no trust, never all trust."""
    assert found(Cms().der(), verifier=CmsVerifier(Trust())) == Finding("not_trusted")


def test_authorities_of_the_trust_store_lead_to_its_roots_but_are_none() -> None:
    """A signer's certificate alone is enough where the store has the way; the way alone is no root."""
    alone = Cms(certificates=[signer().der]).der()
    way = Trust((root().certificate,), (middle().certificate,))

    assert found(alone, verifier=CmsVerifier(way)).failure is None
    assert found(alone, verifier=CmsVerifier(Trust((ec_root().certificate,), (middle().certificate,)))).failure


def test_a_flipped_bit_anywhere_is_found() -> None:
    """One bit in each byte: the finding is negative, or it is the very same one."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for der in (Cms().der(), through_ec(), good_ess()):
        good = found(der)
        for place in range(len(der)):
            wrong = bytearray(der)
            wrong[place] ^= 1 << draw.randrange(8)
            finding = found(bytes(wrong))
            assert finding.failure in FAILURES or finding == good, (place, finding)


@cache
def goods() -> dict[bytes, Finding]:
    """Return some good signatures, made once in a run, and what is found of them."""
    return {der: found(der) for der in (Cms().der(), through_ec(), good_ess(), key_identifier())}


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Draw a good signature with a few pieces changed, cut, doubled, moved or put in."""
    content = bytearray(draw(st.sampled_from(sorted(goods()))))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 40))
        piece = draw(st.one_of(st.binary(max_size=20), st.just(bytes(content[place : place + length]) * 2)))
        content[place : place + length] = piece
    return bytes(content)


@given(mutations())
@settings(max_examples=400, deadline=None)
def test_a_changed_signature_is_never_verified_as_another(signature: bytes) -> None:
    """Whatever was changed: no error, a code of the list, or the finding of the signature unchanged."""
    finding = found(signature)

    assert finding.failure in FAILURES or finding in goods().values()


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_bytes_of_any_kind_are_answered(noise: bytes) -> None:
    """Noise, and noise in the dress of a CMS, is malformed."""
    for each in (noise, b"-----BEGIN CMS-----\n" + noise + b"\n-----END CMS-----", seq(noise), set_of(noise)):
        assert found(each).failure == "malformed"


PLANTED = {
    "message digest": (cms_verifier, "_refuse_other_content", lambda *_: None, "another document"),
    "signature": (cms_verifier, "verify_signature", lambda *_: "RSA-SHA256", "attributes replaced"),
    "signing certificate": (cms_verifier, "_refuse_other_certificate", lambda *_: None, "signing certificate of another"),
    "key usage": (chain, "_refuse_usage", lambda *_: None, "a key for logging in"),
    "validity": (chain, "moment_of", lambda _: SIGNED - timedelta(days=10), "expired when it signed"),
}  # fmt: skip


@pytest.mark.parametrize("check", PLANTED)
def test_the_table_misses_a_check_that_is_left_out(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier without this check lets the case of the table through: each of them is needed, and the table knows."""
    module, function, planted, case = PLANTED[check]
    monkeypatch.setattr(module, function, planted)
    bad: Bad = BAD[case]

    assert CmsVerifier(trust()).verify(bad.make(), bad.content, instant(bad.at)).failure is None


class OpenSsl:
    """The other reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "document").write_bytes(DOCUMENT)
        roots = (root().certificate, ec_root().certificate)
        (folder / "roots.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in roots))

    def run(self, *arguments: str) -> bool:
        """Run ``openssl cms`` in the folder."""
        done = subprocess.run(["openssl", "cms", *arguments], cwd=self.folder, capture_output=True, check=False)
        return done.returncode == 0

    def verifies(self, signature: bytes) -> bool:
        """Tell whether it finds the signature good at the moment of receipt."""
        (self.folder / "signature").write_bytes(signature)
        return self.run(
            "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content", "document", "-CAfile", "roots.pem",
            "-purpose", "any", "-attime", str(int(RECEIVED.timestamp())), "-out", "read",
        )  # fmt: skip


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSsl:
    """The program, where there is one."""
    if shutil.which("openssl") is None:
        pytest.skip("NO openssl ON THIS MACHINE: what the verifier says was compared with nobody")
    return OpenSsl(tmp_path)


def test_openssl_verifies_the_same_good_signatures(openssl: OpenSsl) -> None:
    """Each good signature of the tests is good to another reader too."""
    assert [name for name, make in GOOD.items() if not openssl.verifies(make())] == []


def test_what_openssl_refuses_is_refused_here(openssl: OpenSsl) -> None:
    """Of the good and the changed: nothing is verified here that another reader refuses."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    der = Cms().der()
    for _ in range(60):
        wrong = bytearray(der)
        wrong[draw.randrange(len(der))] ^= 1 << draw.randrange(8)
        if found(bytes(wrong)).failure is None:
            assert openssl.verifies(bytes(wrong)), wrong.hex()


@pytest.mark.parametrize("how", ["rsa", "pss", "ecdsa", "key identifier", "cades"])
def test_what_openssl_signs_is_verified_here(openssl: OpenSsl, how: str) -> None:
    """Signatures of another writer, in each way that it knows; of the present moment, so it is the moment of receipt."""
    # It signs with the present moment: the certificates must be valid then, whenever the tests run.
    always = {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(2200, 1, 1, tzinfo=UTC)}
    long = authority("long", **always)
    holder = person(issuer=long, key=ec_key("ec-signer") if how == "ecdsa" else rsa_key("signer"), **always)
    (openssl.folder / "signer.pem").write_bytes(holder.certificate.public_bytes(Encoding.PEM))
    key = holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (openssl.folder / "key.pem").write_bytes(key)
    more = {
        "pss": ["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:32"], "key identifier": ["-keyid"],
        "cades": ["-cades"],
    }.get(how, [])  # fmt: skip
    assert openssl.run(
        "-sign", "-binary", "-in", "document", "-signer", "signer.pem", "-inkey", "key.pem",
        "-md", "sha256", "-outform", "DER", "-out", "made", *more,
    )  # fmt: skip
    made = (openssl.folder / "made").read_bytes()
    present = datetime.now(UTC)
    finding = CmsVerifier(Trust((long.certificate,))).verify(made, WHOLE, instant(present))

    assert (finding.failure, finding.iin) == (None, OWNER)
    assert abs((finding.signed_at or 0) - instant(present)) < CLOCK_TOLERANCE
