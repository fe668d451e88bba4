"""What is trusted, revoked, plugged in: read at the start with clear errors, and never by default."""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from ruqsat.core.signature_finding import Finding, SignedContent, same_serial
from ruqsat.errors import SettingsError
from ruqsat.signatures.cms_verifier import CmsVerifier
from ruqsat.signatures.plug_in import PlugIn, load_plug_in
from ruqsat.signatures.trust import RevocationLists, load_trust
from tests.signatures.bad import gost
from tests.signatures.der import NULL, seq, tlv
from tests.signatures.fake_gost import FOUND, Fake
from tests.signatures.pki import (
    DOCUMENT,
    RECEIVED,
    SIGNED,
    Cms,
    authority,
    crl,
    ec_root,
    instant,
    middle,
    root,
    rsa_key,
    signer,
    trust,
)

WHOLE = SignedContent(DOCUMENT)
HASH = SignedContent(digest=bytes.fromhex("ab" * 64))


def test_a_trust_store_is_a_file_or_a_folder(tmp_path: Path) -> None:
    """PEM and DER, roots and those on the way to them, told apart by who issued them."""
    (tmp_path / "roots.pem").write_bytes(
        b"".join(each.certificate.public_bytes(Encoding.PEM) for each in (root(), ec_root()))
    )
    (tmp_path / "middle.cer").write_bytes(middle().der)
    (tmp_path / "README.txt").write_text("no certificate")
    folder, file = load_trust(tmp_path), load_trust(tmp_path / "roots.pem")

    assert set(folder.roots) == set(file.roots) == {root().certificate, ec_root().certificate}
    assert (folder.intermediates, file.intermediates) == ((middle().certificate,), ())


@pytest.mark.parametrize(("content", "says"), [
    (None, "no such file"),
    (b"", "no certificates"),
    (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "no certificates"),
    ("signer", "of no certification authority"),
    ("middle", "no root"),
])  # fmt: skip
def test_a_trust_store_that_is_none_stops_the_start(content: bytes | str | None, says: str, tmp_path: Path) -> None:
    """Each with a sentence that says what is wrong with it."""
    file = tmp_path / "trust.pem"
    if content is not None:
        file.write_bytes({"signer": signer, "middle": middle}[content]().der if isinstance(content, str) else content)

    with pytest.raises(SettingsError, match=says):
        load_trust(file)


def test_an_empty_folder_is_no_trust_store(tmp_path: Path) -> None:
    """Nothing to trust is a mistake of the start, not a verifier that refuses everything."""
    with pytest.raises(SettingsError, match="no root"):
        load_trust(tmp_path)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A folder with the current lists of both authorities, on which nobody is."""
    folder = tmp_path / "lists"
    folder.mkdir()
    write(folder, "root", crl(root()))
    write(folder, "middle", crl(middle()))
    return folder


def write(folder: Path, name: str, made: x509.CertificateRevocationList) -> None:
    """Put a list in the folder, newer than whatever was there."""
    file = folder / f"{name}.crl"
    before = file.stat().st_mtime if file.exists() else 0
    file.write_bytes(made.public_bytes(Encoding.DER))
    os.utime(file, (before + 10, before + 10))


def found(folder: Path) -> str | None:
    """Return what is found of a good signature under these lists."""
    verifier = CmsVerifier(trust(), RevocationLists(folder))
    return verifier.verify(Cms().der(), WHOLE, instant(RECEIVED)).failure


def test_who_is_on_no_list_is_verified(lists: Path) -> None:
    """Both the signer's authority and the root's list are needed, and both are clean."""
    assert found(lists) is None


SERIAL, MIDDLE = signer().certificate.serial_number, middle().certificate.serial_number
FOREIGN = authority("middle", key=rsa_key("impostor"))


@pytest.mark.parametrize(("issuer", "made", "code"), [
    ("middle", crl(middle(), SERIAL), "revoked"),
    ("middle", crl(middle(), 5, SERIAL), "revoked"),
    ("middle", crl(middle(), 5), None),
    ("root", crl(root(), MIDDLE), "revoked"),
    ("root", crl(root(), SERIAL), None),
    # Revoked after the moment at which it says that it was signed: that moment is its own word.
    ("middle", crl(middle(), SERIAL, revoked=SIGNED + timedelta(minutes=1)), "revoked"),
    ("middle", crl(FOREIGN, key=rsa_key("impostor")), "revocation_unknown"),
    ("middle", crl(middle(), until=SIGNED), "revocation_unknown"),
    ("middle", crl(middle(), since=RECEIVED + timedelta(seconds=1)), "revocation_unknown"),
    ("middle", crl(middle(), extensions=[(x509.DeltaCRLIndicator(1), True)]), "revocation_unknown"),
    ("middle", crl(ec_root()), "revocation_unknown"),
])  # fmt: skip
def test_revoked_certificates_sign_nothing(
    issuer: str, made: x509.CertificateRevocationList, code: str | None, lists: Path
) -> None:
    """By whichever authority of the chain; and without a current list of its own, nothing is known of it."""
    write(lists, issuer, made)

    assert found(lists) == code


def test_a_list_that_changes_is_read_again(lists: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a restart: newly revoked, broken, taken away."""
    verifier = CmsVerifier(trust(), RevocationLists(lists))

    def now() -> str | None:
        return verifier.verify(Cms().der(), WHOLE, instant(RECEIVED)).failure

    assert now() is None
    write(lists, "middle", crl(middle(), SERIAL))
    assert now() == "revoked"
    (lists / "middle.crl").write_bytes(b"CANARY")
    assert now() == "revocation_unknown"
    write(lists, "middle", crl(middle()))
    assert now() is None
    for file in lists.iterdir():
        file.unlink()
    assert now() == "revocation_unknown"
    lists.rmdir()
    assert now() == "revocation_unknown"
    assert "CANARY" not in caplog.text


def test_a_folder_of_lists_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """No such folder, or a file in it that is no list."""
    with pytest.raises(SettingsError, match="no such folder"):
        RevocationLists(tmp_path / "none")
    (tmp_path / "list.crl").write_bytes(b"none")
    with pytest.raises(SettingsError, match="no list"):
        RevocationLists(tmp_path)


def with_plug_in(finding: Any) -> Finding:
    """Return what comes of a signature under GOST with a plug-in that does this."""
    return CmsVerifier(trust(), None, PlugIn(Fake(finding))).verify(gost(), HASH, instant(RECEIVED))


def test_a_plug_in_decides_what_is_not_known_here_and_nothing_else() -> None:
    """A signature under GOST is its to verify; a bad one under RSA never comes to it."""
    verifier = CmsVerifier(trust(), None, load_plug_in("tests.signatures.fake_gost:make"))

    assert verifier.verify(gost(), HASH, instant(RECEIVED)) == FOUND
    for bad in (Cms().der(), Cms(replaced={"1.2.840.113549.1.9.5": None}).der(), b"", Cms(hash_="1.3.14.3.2.26").der()):
        assert verifier.verify(bad, HASH, instant(RECEIVED)).failure not in (None, "algorithm_not_supported")


def test_a_plug_in_that_says_no_is_believed() -> None:
    """A plug-in's negative finding counts, if its code is one of the list."""
    assert with_plug_in(lambda: Finding("revoked")) == Finding("revoked")


def _raises() -> Finding:
    raise RuntimeError("CANARY 880808100001")


@pytest.mark.parametrize("made", [
    _raises, lambda: None, lambda: True, Finding, lambda: Finding("CANARY"),
    lambda: msgspec.structs.replace(FOUND, digest="00" * 64), lambda: msgspec.structs.replace(FOUND, iin=None),
    lambda: msgspec.structs.replace(FOUND, signed_at=None),
    lambda: msgspec.structs.replace(FOUND, signed_at=instant(RECEIVED + timedelta(hours=1))),
    lambda: msgspec.structs.replace(FOUND, valid_to=instant(SIGNED - timedelta(seconds=1))),
])  # fmt: skip
def test_a_plug_in_that_fails_verifies_nothing(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An error, no finding, half a finding, one of another document: none of them helps, and none is repeated."""
    with caplog.at_level(logging.DEBUG):
        assert with_plug_in(made) == Finding("verifier_failed")
    assert "CANARY" not in caplog.text and "8808" not in caplog.text


@pytest.mark.parametrize(("name", "says"), [
    ("tests.signatures.nowhere:make", "cannot be imported"),
    ("tests.signatures.fake_gost:nothing", "has no `nothing`"),
    ("tests.signatures.fake_gost:fail", "failed: RuntimeError"),
    ("tests.signatures.fake_gost:empty", "has no `verify`"),
])  # fmt: skip
def test_a_plug_in_that_is_none_stops_the_start(name: str, says: str) -> None:
    """Each with a sentence that says what is wrong with it."""
    with pytest.raises(SettingsError, match=says):
        load_plug_in(name)


def test_a_serial_number_is_read_as_people_write_it() -> None:
    """Case, colons and leading zeros do not count; digits do."""
    assert same_serial("0x00:AB:CD:EF:01:23", "abcdef0123")
    assert not any(same_serial(each, "abcdef0123") for each in ("", "abcdef012", "abcdef01234", "CANARY"))


def test_a_list_signed_weakly_is_no_list(lists: Path) -> None:
    """What SHA-1 vouches for, anybody might have written."""
    strong, weak = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    tbs = crl(middle()).tbs_certlist_bytes
    for oid, hash_, code in ((strong, hashes.SHA256(), None), (weak, hashes.SHA1(), "revocation_unknown")):
        signed = tbs.replace(strong, oid)
        made = rsa_key("middle").sign(signed, padding.PKCS1v15(), hash_)
        (lists / "middle.crl").write_bytes(seq(signed, seq(oid, NULL), tlv(0x03, b"\x00", made)))
        assert found(lists) == code
