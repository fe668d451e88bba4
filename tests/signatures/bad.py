"""Signatures that must not hold, each with the one code that it fails."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ruqsat.core.signature_finding import SignedContent
from tests.registry.documents import BIN
from tests.signatures.der import NULL, algorithm, explicit, integer, octets, oid, seq, set_of, tlv
from tests.signatures.pki import (
    CONTENT_TYPE,
    DOCUMENT,
    ECDSA_SHA256,
    GOST_HASH,
    GOST_KEY,
    GOST_SIGNATURE,
    MESSAGE_DIGEST,
    PSS,
    RECEIVED,
    RSA_SHA256,
    SHA256,
    SHA512,
    SIGNED,
    SIGNED_DATA,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
    Cms,
    Holder,
    attribute,
    authority,
    ec_key,
    ec_root,
    ec_signer,
    issue,
    middle,
    name,
    person,
    pss_parameters,
    root,
    rsa_key,
    signer,
    usage,
    utc_time,
)

SHA1, MD5 = "1.3.14.3.2.26", "1.2.840.113549.2.5"
SHA1_RSA, SHA512_RSA, ED25519 = "1.2.840.113549.1.1.5", "1.2.840.113549.1.1.13", "1.3.101.112"
WHOLE = SignedContent(DOCUMENT)


class Bad(NamedTuple):
    """How it is made, what it should be the signature of, when it is handed in."""

    code: str
    make: Callable[[], bytes]
    content: SignedContent = WHOLE
    at: datetime = RECEIVED


def _by(holder: Holder, *chain: Holder, **more: object) -> bytes:
    return Cms(by=holder, certificates=[holder.der, *(each.der for each in chain)], **more).der()  # type: ignore[arg-type]


def _via(**more: object) -> bytes:
    """Return a signature whose certificate was issued by another authority under the root."""
    other = authority("other", root(), **more)
    return _by(person(issuer=other), other)


def _indefinite(der: bytes) -> bytes:
    header = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    return der[:1] + b"\x80" + der[header:] + b"\x00\x00"


def _long_length(der: bytes) -> bytes:
    return der[:1] + b"\x83\x00" + der[2:4] + der[4:]


def _weakly_issued() -> bytes:
    """Return a signature whose certificate its issuer signed with SHA-1."""
    strong, weak = tlv(0x06, bytes.fromhex("2a864886f70d01010b")), tlv(0x06, bytes.fromhex("2a864886f70d010105"))
    good = person().certificate
    tbs = good.tbs_certificate_bytes.replace(strong, weak)
    made = rsa_key("middle").sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    der = seq(tbs, algorithm(SHA1_RSA), tlv(0x03, b"\x00", made))
    return _by(Holder(x509.load_der_x509_certificate(der), rsa_key("signer")), middle())


def _gost_certificate() -> Holder:
    """Return a certificate as the national centre issues them under GOST; its signature is made up."""
    common = name("CANARY-gost", serial="IIN880808100001").public_bytes()
    key = seq(
        seq(oid(GOST_KEY), seq(oid("1.2.398.3.10.1.1.2.2.1"), oid(GOST_HASH))), tlv(0x03, b"\x00", octets(b"k" * 128))
    )
    tbs = seq(
        explicit(0, integer(2)), integer(7), algorithm(GOST_SIGNATURE), common,
        seq(utc_time(SIGNED - timedelta(days=9)), utc_time(SIGNED + timedelta(days=9))), common, key,
    )  # fmt: skip
    der = seq(tbs, algorithm(GOST_SIGNATURE), tlv(0x03, b"\x00", b"s" * 128))
    return Holder(x509.load_der_x509_certificate(der), rsa_key("signer"))


def gost(**more: object) -> bytes:
    """Return a signature under GOST."""
    parts = {"digest_algorithm": algorithm(GOST_HASH), "signature_algorithm": algorithm(GOST_SIGNATURE)} | more
    return _by(_gost_certificate(), **parts)


def _constrained_directory(permitted: bool) -> bytes:
    """Return a signature whose certificate has a subject that its authority may not give, or might have been refused."""
    names = [x509.DirectoryName(name("CANARY-others"))]
    only = x509.NameConstraints(names, None) if permitted else x509.NameConstraints(None, names)
    return _via(extensions=[(only, True)])


def _constrained() -> bytes:
    """Return a signature whose certificate has a name outside of what its authority may name."""
    only = x509.NameConstraints([x509.DNSName("hospital.example")], None)
    other = authority("constrained", root(), extensions=[(only, True)])
    named = (x509.SubjectAlternativeName([x509.DNSName("elsewhere.example")]), False)
    return _by(person(issuer=other, extensions=[named]), other)


def _long_path() -> bytes:
    one = issue(
        name("one"), rsa_key("one"), root(), key_usage=usage(key_cert_sign=True),
        extensions=[(x509.BasicConstraints(True, 0), True)],
    )  # fmt: skip
    two = authority("two", one)
    return _by(person(issuer=two), two, one)


def _replaced_after() -> bytes:
    good = Cms()
    other = Cms(at=SIGNED + timedelta(seconds=1))
    data = tlv(0x31, b"".join(sorted(good.own_attributes())))
    other.signed = data
    return other.der()


def _signed_under_its_tag() -> bytes:
    body = b"".join(sorted(Cms().own_attributes()))
    return Cms(signed=tlv(0xA0, body)).der()


def _ess(certificate: Holder, hash_: bytes = b"") -> bytes:
    digest = hash_ or certificate.certificate.fingerprint(hashes.SHA256())
    return attribute(SIGNING_CERTIFICATE_V2, seq(seq(seq(octets(digest)))))


def _padded(holder: Holder) -> Holder:
    """Return a certificate of which one more bit is called padding: another one, with the same signature."""
    while True:
        der = bytearray(holder.der)
        der[-len(holder.certificate.signature) - 1] = 1
        if der[-1] & 1 == 0:
            return Holder(x509.load_der_x509_certificate(bytes(der)), holder.key)
        holder = person()


def _flipped(der: bytes, part: bytes) -> bytes:
    place = der.index(part) + len(part) - 1
    return der[:place] + bytes([der[place] ^ 1]) + der[place + 1 :]


def _digest_attribute(*values: bytes) -> dict[str, bytes | None]:
    return {MESSAGE_DIGEST: attribute(MESSAGE_DIGEST, *values)}


BAD: dict[str, Bad] = {
    # No such structure
    "empty": Bad("malformed", lambda: b""),
    "text": Bad("malformed", lambda: b"I agree"),
    "one byte": Bad("malformed", lambda: b"\x30"),
    "zeros": Bad("malformed", lambda: bytes(2000)),
    "without its last byte": Bad("malformed", lambda: Cms().der()[:-1]),
    "half": Bad("malformed", lambda: Cms().der()[:900]),
    "with a byte after it": Bad("malformed", lambda: Cms().der() + b"\x00"),
    "twice": Bad("malformed", lambda: Cms().der() * 2),
    "huge": Bad("too_large", lambda: Cms().der() + bytes(200_000)),
    "large but whole": Bad("too_large", lambda: Cms(extra=[attribute("1.2.3", octets(bytes(60_000)))]).der()),
    "nested without end": Bad("malformed", lambda: b"\x30\x82\xbb\x00" * 11_000),
    "indefinite length": Bad("malformed", lambda: _indefinite(Cms().der())),
    "length in too many bytes": Bad("malformed", lambda: _long_length(Cms().der())),
    "constructed octets": Bad("malformed", lambda: Cms(unsigned=b"", signature=b"x").der().replace(b"\x04\x01x", b"\x24\x01x")),
    "armour of another thing": Bad("malformed", lambda: b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"),
    "armour without content": Bad("malformed", lambda: b"-----BEGIN CMS-----\n====\n-----END CMS-----"),
    "a certificate": Bad("malformed", lambda: signer().der),
    "content info of data": Bad("malformed", lambda: seq(oid("1.2.840.113549.1.7.1"), explicit(0, octets(DOCUMENT)))),
    "content info of nothing": Bad("malformed", lambda: seq(oid(SIGNED_DATA))),
    "another type outside": Bad("malformed", lambda: seq(oid("1.2.840.113549.1.7.3"), explicit(0, Cms().signed_data()))),
    "parameters of a hash announced": Bad(
        "malformed", lambda: Cms().der().replace(set_of(algorithm(SHA256)), set_of(algorithm(SHA256, tlv(0x01))), 1)
    ),
    "nested cms": Bad("malformed", lambda: Cms(content_type=SIGNED_DATA).der()),
    "cms in cms": Bad("malformed", lambda: seq(oid(SIGNED_DATA), explicit(0, Cms().der()))),
    "version nine": Bad("malformed", lambda: Cms(version=9).der()),
    "version of another signer identifier": Bad("malformed", lambda: Cms(version=3).der()),
    "attributes out of order": Bad(
        "malformed", lambda: Cms(sort=False, attributes=sorted(Cms().own_attributes(), reverse=True)).der()
    ),
    "eleven certificates": Bad("malformed", lambda: Cms(certificates=[signer().der] * 11).der()),
    "certificate that is none": Bad("malformed", lambda: Cms(certificates=[signer().der, seq(NULL)]).der()),
    "certificate with a bit of padding": Bad("malformed", lambda: _by(_padded(signer()), middle())),
    "digest algorithm not announced": Bad(
        "malformed", lambda: Cms().der().replace(set_of(algorithm(SHA256)), set_of(algorithm(SHA512)), 1)
    ),
    "parameters of a hash": Bad("malformed", lambda: Cms(digest_algorithm=algorithm(SHA256, integer(1))).der()),
    # What it is about
    "attached": Bad("not_detached", lambda: Cms(content=DOCUMENT).der()),
    "attached and empty": Bad("not_detached", lambda: Cms(content=b"").der()),
    "two signers": Bad("several_signers", lambda: Cms().der(Cms(by=ec_signer()).signer_info())),
    "the same signer twice": Bad("several_signers", lambda: Cms().der(Cms().signer_info())),
    "another document": Bad("content_differs", lambda: Cms().der(), SignedContent(DOCUMENT + b".")),
    "another hash": Bad("content_differs", lambda: Cms().der(), SignedContent(digest=bytes(32))),
    "an empty hash": Bad("content_differs", lambda: Cms().der(), SignedContent(digest=b"")),
    "a hash of another length": Bad("content_differs", lambda: Cms().der(), SignedContent(digest=Cms(hash_=SHA512).digest())),
    "document and hash of another": Bad("hash_mismatch", lambda: Cms().der(), SignedContent(DOCUMENT, bytes(32))),
    "nothing to compare": Bad("content_missing", lambda: Cms().der(), SignedContent()),
    # Signed attributes
    "no attributes": Bad("attributes_wrong", lambda: Cms(attributes=[], signed=DOCUMENT).der()),
    "no message digest": Bad("attributes_wrong", lambda: Cms(replaced={MESSAGE_DIGEST: None}).der()),
    "message digest twice": Bad("attributes_wrong", lambda: Cms(extra=[attribute(MESSAGE_DIGEST, octets(bytes(32)))]).der()),
    "message digest twice, both good": Bad(
        "attributes_wrong", lambda: Cms(extra=[attribute(MESSAGE_DIGEST, octets(Cms().digest()))]).der()
    ),
    "message digest of two values": Bad(
        "attributes_wrong", lambda: Cms(replaced=_digest_attribute(octets(Cms().digest()), octets(bytes(32)))).der()
    ),
    "message digest of no value": Bad("attributes_wrong", lambda: Cms(replaced=_digest_attribute()).der()),
    "message digest that is a number": Bad("malformed", lambda: Cms(replaced=_digest_attribute(integer(5))).der()),
    "no content type": Bad("attributes_wrong", lambda: Cms(replaced={CONTENT_TYPE: None}).der()),
    "another content type": Bad(
        "attributes_wrong", lambda: Cms(replaced={CONTENT_TYPE: attribute(CONTENT_TYPE, oid(SIGNED_DATA))}).der()
    ),
    "no signing time": Bad("signing_time_missing", lambda: Cms(replaced={SIGNING_TIME: None}).der()),
    "signing time twice": Bad("attributes_wrong", lambda: Cms(extra=[attribute(SIGNING_TIME, utc_time(RECEIVED))]).der()),
    "signing time in words": Bad("malformed", lambda: Cms(replaced={SIGNING_TIME: attribute(SIGNING_TIME, octets(b"now"))}).der()),
    "signing time without a zone": Bad(
        "malformed", lambda: Cms(replaced={SIGNING_TIME: attribute(SIGNING_TIME, tlv(0x17, b"260401040000"))}).der()
    ),
    "signing time to come": Bad("in_future", lambda: Cms(at=RECEIVED + timedelta(minutes=6)).der()),
    "attributes replaced": Bad("signature_wrong", _replaced_after),
    "signed under its tag": Bad("signature_wrong", _signed_under_its_tag),
    "signed the document alone": Bad("signature_wrong", lambda: Cms(signed=DOCUMENT).der()),
    "signing certificate of another": Bad("attributes_wrong", lambda: Cms(extra=[_ess(ec_signer())]).der()),
    "signing certificate of a wrong hash": Bad("attributes_wrong", lambda: Cms(extra=[_ess(signer(), bytes(32))]).der()),
    "no signing certificate in it": Bad(
        "attributes_wrong", lambda: Cms(extra=[attribute(SIGNING_CERTIFICATE_V2, seq(seq()))]).der()
    ),
    # The signature
    "no signature": Bad("signature_wrong", lambda: Cms(signature=b"\x00").der()),
    "signature of zeros": Bad("signature_wrong", lambda: Cms(signature=bytes(256)).der()),
    "ecdsa of zeros": Bad(
        "signature_wrong",
        lambda: _by(ec_signer(), signature=seq(integer(0), integer(0))),
    ),
    "a bit of the signature": Bad("signature_wrong", lambda: Cms().der()[:-1] + bytes([Cms().der()[-1] ^ 1])),
    "a bit of the digest": Bad("content_differs", lambda: _flipped(Cms().der(), Cms().digest())),
    "a bit of the key": Bad(
        "signature_wrong",
        lambda: _flipped(Cms().der(), signer().certificate.public_key().public_numbers().n.to_bytes(256, "big")[:100]),  # type: ignore[union-attr]
    ),
    "another's key": Bad("signature_wrong", lambda: Cms(by=Holder(signer().certificate, rsa_key("stolen"))).der()),
    "sha1": Bad("algorithm_weak", lambda: Cms(hash_=SHA1).der()),
    "md5": Bad("algorithm_weak", lambda: Cms(digest_algorithm=algorithm(MD5)).der()),
    "sha1 with rsa over sha256": Bad("algorithm_weak", lambda: Cms(signature_algorithm=algorithm(SHA1_RSA)).der()),
    "another hash in the signature": Bad("signature_wrong", lambda: Cms(signature_algorithm=algorithm(SHA512_RSA)).der()),
    "ecdsa by an rsa key": Bad("signature_wrong", lambda: Cms(signature_algorithm=algorithm(ECDSA_SHA256, b"")).der()),
    "rsa by a key on a curve": Bad("signature_wrong", lambda: _by(ec_signer(), signature_algorithm=algorithm(RSA_SHA256))),
    "parameters of rsa": Bad("signature_wrong", lambda: Cms(signature_algorithm=algorithm(RSA_SHA256, integer(1))).der()),
    "pss without parameters": Bad("malformed", lambda: Cms(pss=32, signature_algorithm=algorithm(PSS)).der()),
    "pss of another salt": Bad(
        "signature_wrong", lambda: Cms(pss=32, signature_algorithm=algorithm(PSS, pss_parameters(salt=20))).der()
    ),
    "pss with a mask of sha1": Bad(
        "algorithm_weak", lambda: Cms(pss=32, signature_algorithm=algorithm(PSS, pss_parameters(mask=SHA1))).der()
    ),
    "pss of another hash": Bad(
        "signature_wrong", lambda: Cms(pss=32, signature_algorithm=algorithm(PSS, pss_parameters(SHA512))).der()
    ),
    "rsa of 1024 bits": Bad("algorithm_weak", lambda: _by(person(key=rsa_key("short", 1024)), middle())),
    "a curve of 192 bits": Bad("algorithm_weak", lambda: _by(person(key=ec_key("short", "SECP192R1")), middle())),
    "another curve": Bad("algorithm_weak", lambda: _by(person(key=ec_key("other", "SECP256K1")), middle())),
    "ed25519": Bad("algorithm_not_supported", lambda: Cms(signature_algorithm=algorithm(ED25519, b"")).der()),
    "gost": Bad("algorithm_not_supported", gost),
    "gost hash only": Bad("algorithm_not_supported", lambda: Cms(digest_algorithm=algorithm(GOST_HASH)).der()),
    "gost signature only": Bad("algorithm_not_supported", lambda: Cms(signature_algorithm=algorithm(GOST_SIGNATURE)).der()),
    "gost key only": Bad("algorithm_not_supported", lambda: _by(_gost_certificate())),
    # The certificate
    "no certificate": Bad("certificate_missing", lambda: Cms(certificates=[]).der()),
    "another certificate": Bad("certificate_missing", lambda: Cms(certificates=[ec_signer().der, middle().der]).der()),
    "another serial number": Bad(
        "certificate_missing",
        lambda: Cms(sid=seq(signer().certificate.issuer.public_bytes(), integer(5))).der(),
    ),
    "another key identifier": Bad("certificate_missing", lambda: _with_key_identifier(bytes(20))),
    "a certificate of two people": Bad("several_holders", lambda: Cms(by=person(parts={"serial_": "IIN010101700016"})).der()),
    "a certificate of two organisations": Bad("several_holders", lambda: Cms(by=person(parts={"unit": f"BIN{BIN}", "unit_": "BIN010101700016"})).der()),
    "its own authority": Bad("not_trusted", lambda: _by(issue(name("CANARY", serial="IIN880808100001"), rsa_key("signer"), None))),
    "a root that brings itself": Bad("not_trusted", lambda: _by(person(issuer=_foreign()), _foreign())),
    "a root of the same name": Bad("not_trusted", lambda: _by(person(issuer=_impostor()), _impostor())),
    "no way to the root": Bad("not_trusted", lambda: Cms(certificates=[signer().der]).der()),
    "an authority without the mark": Bad("not_trusted", lambda: _via(ca=False)),
    "an authority that says nothing of it": Bad("not_trusted", lambda: _via(ca=None)),
    "an authority that may not issue": Bad("not_trusted", lambda: _via(key_usage=usage(crl_sign=True))),
    "an authority that was over": Bad("not_trusted", lambda: _via(until=SIGNED - timedelta(days=1))),
    "an authority that was over when it came": Bad("not_trusted", lambda: _via(until=SIGNED + timedelta(seconds=1))),
    "an authority to come": Bad("not_trusted", lambda: _via(since=SIGNED + timedelta(seconds=1))),
    "a path too long": Bad("not_trusted", _long_path),
    "an owner who issues": Bad("not_trusted", lambda: _by(person(issuer=signer(), key=rsa_key("child")), signer(), middle())),
    "a name that the authority may not give": Bad("not_trusted", _constrained),
    "a subject that the authority may not give": Bad("not_trusted", lambda: _constrained_directory(permitted=True)),
    "a subject that the authority may be kept from": Bad("not_trusted", lambda: _constrained_directory(permitted=False)),
    "issued with sha1": Bad("algorithm_weak", _weakly_issued),
    "expired when it signed": Bad("certificate_expired", lambda: _by(person(until=SIGNED - timedelta(seconds=1)), middle())),
    "not valid yet when it signed": Bad("certificate_not_yet_valid", lambda: _by(person(since=SIGNED + timedelta(seconds=1)), middle())),
    "expired when it came": Bad("certificate_expired_since", lambda: _by(person(until=SIGNED + timedelta(seconds=1)), middle())),
    "signed before, handed in years later": Bad("certificate_expired_since", lambda: Cms().der(), at=SIGNED + timedelta(days=700)),
    "a key for logging in": Bad("key_usage", lambda: _by(person(key_usage=usage(digital_signature=True)), middle())),
    "a key for encryption": Bad("key_usage", lambda: _by(person(key_usage=usage(key_encipherment=True)), middle())),
    "a key for nothing": Bad("key_usage", lambda: _by(person(key_usage=None), middle())),
    "an authority that signs documents": Bad(
        "not_trusted", lambda: _by(person(ca=True, key_usage=usage(content_commitment=True, key_cert_sign=True)), middle())
    ),
    "an extension that nobody knows": Bad(
        "not_trusted",
        lambda: _by(person(extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), NULL), True)]), middle()),
    ),
}  # fmt: skip


def _with_key_identifier(identifier: bytes) -> bytes:
    return Cms(version=3, sid=tlv(0x80, identifier)).der()


def key_identifier() -> bytes:
    """Return a good signature that names its certificate by the key's identifier."""
    ski = signer().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return _with_key_identifier(ski)


def good_ess() -> bytes:
    """Return a good signature that says which certificate it means."""
    return Cms(extra=[_ess(signer())]).der()


def _foreign() -> Holder:
    return authority("foreign")


def _impostor() -> Holder:
    return authority("root", key=rsa_key("impostor"))


def through_ec() -> bytes:
    """Return a good signature whose chain is on curves."""
    return _by(ec_signer(), ec_root())
