"""A certification centre of the tests, and signatures that can be made wrong in every part; nobody in it exists."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ruqsat.core.instant import SECOND, Instant
from ruqsat.signatures.trust import Trust
from tests.registry.documents import BIN, OWNER
from tests.signatures.der import NULL, algorithm, explicit, integer, octets, oid, seq, set_of, tlv

SIGNED = datetime(2026, 4, 1, 4, 0, tzinfo=UTC)
RECEIVED = SIGNED + timedelta(minutes=2)
DOCUMENT = b"CANARY-consent: I agree"
SHA256, SHA384, SHA512 = (f"2.16.840.1.101.3.4.2.{number}" for number in (1, 2, 3))
RSA, RSA_SHA256, PSS = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11", "1.2.840.113549.1.1.10"
ECDSA_SHA256 = "1.2.840.10045.4.3.2"
GOST_KEY, GOST_SIGNATURE, GOST_HASH = "1.2.398.3.10.1.1.2.2", "1.2.398.3.10.1.1.2.3.2", "1.2.398.3.10.1.3.3"
DATA, SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.5"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def instant(moment: datetime) -> Instant:
    """Return a moment as the core knows it."""
    return int(moment.timestamp()) * SECOND


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the key of this name, made once in a run."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str, curve: str = "SECP256R1") -> ec.EllipticCurvePrivateKey:
    """Return the key of this name, made once in a run."""
    return ec.generate_private_key(getattr(ec, curve)())


@dataclass(frozen=True)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)


def name(common: str, **parts: str) -> x509.Name:
    """Return a name; ``serial`` and ``unit`` are where the national centre writes IIN and BIN."""
    oids = {"serial": NameOID.SERIAL_NUMBER, "unit": NameOID.ORGANIZATIONAL_UNIT_NAME}
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    attributes += [x509.NameAttribute(oids[part.rstrip("_")], text) for part, text in parts.items()]
    return x509.Name(attributes)


def usage(**set_: bool) -> x509.KeyUsage:
    """Return a key usage in which only these are set."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{each: set_.get(each, False) for each in names})


SIGNS = usage(digital_signature=True, content_commitment=True)


def issue(
    subject: x509.Name, key: Key, issuer: Holder | None, *,
    since: datetime = SIGNED - timedelta(days=100), until: datetime = SIGNED + timedelta(days=265),
    key_usage: x509.KeyUsage | None = SIGNS, ca: bool | None = None, hash_: Any = hashes.SHA256,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (), serial: int | None = None, pss: bool = False,
) -> Holder:  # fmt: skip
    """Issue a certificate; without *issuer*, by itself."""
    by = issuer.certificate.subject if issuer else subject
    builder = x509.CertificateBuilder(
        by, subject, key.public_key(), serial or x509.random_serial_number(), since, until
    )
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer_key = issuer.key if issuer else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    pad = padding.PSS(padding.MGF1(hash_()), hash_.digest_size) if pss else None
    return Holder(builder.sign(issuer_key, hash_(), rsa_padding=pad), key)


def authority(common: str, issuer: Holder | None = None, key: Key | None = None, **more: Any) -> Holder:
    """Issue an authority's certificate."""
    more = {"ca": True, "key_usage": usage(key_cert_sign=True, crl_sign=True), "since": SIGNED - timedelta(days=1000),
            "until": SIGNED + timedelta(days=3000)} | more  # fmt: skip
    return issue(name(common), key or rsa_key(common), issuer, **more)


@cache
def root() -> Holder:
    """The root of the tests."""
    return authority("root")


@cache
def middle() -> Holder:
    """The authority that issues to signers."""
    return authority("middle", root())


@cache
def ec_root() -> Holder:
    """A root with a key on a curve."""
    return authority("ec-root", key=ec_key("ec-root"))


def person(iin: str = OWNER, issuer: Holder | None = None, key: Key | None = None, **more: Any) -> Holder:
    """Issue a person's certificate."""
    parts = {"serial": f"IIN{iin}"} | more.pop("parts", {})
    return issue(name("CANARY-signer", **parts), key or rsa_key("signer"), issuer or middle(), **more)


@cache
def signer() -> Holder:
    """The owner's certificate."""
    return person(serial=0x00AB_CDEF_0123)


@cache
def ec_signer() -> Holder:
    """The owner's certificate for a key on a curve."""
    return person(issuer=ec_root(), key=ec_key("ec-signer"), serial=0x77)


@cache
def organisation() -> Holder:
    """A certificate of the hospital's, held by its director."""
    return person("880808100309", parts={"unit": f"BIN{BIN}"}, key=rsa_key("organisation"), serial=0x5150)


def trust() -> Trust:
    """What the tests trust."""
    return Trust((root().certificate, ec_root().certificate), ())


def crl(
    issuer: Holder, *serials: int, since: datetime = SIGNED - timedelta(days=1), **more: Any
) -> x509.CertificateRevocationList:
    """Issue a list of revoked certificates."""
    builder = x509.CertificateRevocationListBuilder(
        more.get("name", issuer.certificate.subject), since, more.get("until", SIGNED + timedelta(days=7))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder(serial, more.get("revoked", SIGNED - timedelta(days=2)))
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in more.get("extensions", ()):
        builder = builder.add_extension(extension, critical)
    return builder.sign(more.get("key", issuer.key), more.get("hash_", hashes.SHA256()))


def utc_time(moment: datetime) -> bytes:
    """Return a UTCTime."""
    return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def attribute(type_: str, *values: bytes) -> bytes:
    """Return a signed attribute."""
    return seq(oid(type_), set_of(*values))


def pss_parameters(hash_: str = SHA256, mask: str = SHA256, salt: int = 32) -> bytes:
    """Return the parameters of RSASSA-PSS."""
    return seq(
        explicit(0, algorithm(hash_)), explicit(1, seq(oid("1.2.840.113549.1.1.8"), algorithm(mask))),
        explicit(2, integer(salt)),
    )  # fmt: skip


@dataclass
class Cms:
    """A detached signature in parts; whatever is set replaces what a good one has."""

    by: Holder = field(default_factory=signer)
    document: bytes = DOCUMENT
    at: datetime = SIGNED
    hash_: str = SHA256
    digest_algorithm: bytes | None = None
    signature_algorithm: bytes | None = None
    attributes: list[bytes] | None = None
    replaced: dict[str, bytes | None] = field(default_factory=dict)
    """Attributes by type: another one in the place of the good one, None for none at all."""
    extra: list[bytes] = field(default_factory=list)
    certificates: list[bytes] | None = None
    signed: bytes | None = None
    """What is signed in the place of the attributes."""
    signature: bytes | None = None
    content: bytes | None = None
    content_type: str = DATA
    sid: bytes | None = None
    version: int = 1
    unsigned: bytes = b""
    sort: bool = True
    pss: int | None = None

    def digest(self) -> bytes:
        """Return the hash of the document."""
        return hashlib.new(
            {SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}.get(self.hash_, "sha1"), self.document
        ).digest()

    def own_attributes(self) -> list[bytes]:
        """Return the signed attributes."""
        if self.attributes is not None:
            return self.attributes
        good: dict[str, bytes | None] = {
            CONTENT_TYPE: attribute(CONTENT_TYPE, oid(DATA)),
            MESSAGE_DIGEST: attribute(MESSAGE_DIGEST, octets(self.digest())),
            SIGNING_TIME: attribute(SIGNING_TIME, utc_time(self.at)),
        } | self.replaced
        return [each for each in good.values() if each is not None] + self.extra

    def _sign(self, data: bytes) -> bytes:
        hash_ = {SHA256: hashes.SHA256(), SHA384: hashes.SHA384(), SHA512: hashes.SHA512()}.get(
            self.hash_, hashes.SHA1()
        )
        if isinstance(self.by.key, ec.EllipticCurvePrivateKey):
            return self.by.key.sign(data, ec.ECDSA(hash_))
        pad = padding.PKCS1v15() if self.pss is None else padding.PSS(padding.MGF1(hash_), self.pss)
        return self.by.key.sign(data, pad, hash_)

    def signer_info(self) -> bytes:
        """Return the SignerInfo."""
        attributes = self.own_attributes()
        body = b"".join(sorted(attributes) if self.sort else attributes)
        signature = self._sign(tlv(0x31, body) if self.signed is None else self.signed)
        own = RSA if isinstance(self.by.key, rsa.RSAPrivateKey) else ECDSA_SHA256
        sid = seq(self.by.certificate.issuer.public_bytes(), integer(self.by.certificate.serial_number))
        return seq(
            integer(self.version), self.sid or sid, self.digest_algorithm or algorithm(self.hash_),
            tlv(0xA0, body) if attributes else b"",
            self.signature_algorithm or algorithm(own, NULL if own == RSA else b""),
            octets(self.signature or signature), self.unsigned,
        )  # fmt: skip

    def signed_data(self, *others: bytes) -> bytes:
        """Return the SignedData; *others* are further SignerInfos."""
        chain = [self.by.der, middle().der] if self.certificates is None else self.certificates
        content = b"" if self.content is None else explicit(0, octets(self.content))
        return seq(
            integer(self.version), set_of(self.digest_algorithm or algorithm(self.hash_)),
            seq(oid(self.content_type), content), explicit(0, *sorted(chain)) if chain else b"",
            set_of(self.signer_info(), *others),
        )  # fmt: skip

    def der(self, *others: bytes) -> bytes:
        """Return the whole."""
        return seq(oid(SIGNED_DATA), explicit(0, self.signed_data(*others)))
