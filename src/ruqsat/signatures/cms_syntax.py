"""
The syntax of a detached signature, CMS SignedData (RFC 5652), and its strict reading.

Only DER is read.  BER would let the same signature be written in many ways, and
readers differ in what they make of the strange ones.
"""

import base64
import binascii
import re
from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1
from msgspec import Struct

MAX_BYTES = 48 * 1024
MAX_CERTIFICATES = 10
SIGNED_DATA, DATA = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"

_SEQUENCE = b"\x30"
_PEM = re.compile(rb"\s*-----BEGIN (CMS|PKCS7)-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----\s*")
_T = TypeVar("_T")


class FailedError(Exception):
    """A signature fails with this code of ``FAILURES``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@asn1.sequence
class AlgorithmIdentifier:
    """Which algorithm; its parameters may be anything."""

    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null | asn1.TLV | None


@asn1.sequence
class _MaskAlgorithm:
    algorithm: x509.ObjectIdentifier
    parameters: AlgorithmIdentifier


@asn1.sequence
class PssParameters:
    """The parameters of RSASSA-PSS (RFC 4055), all stated: the defaults are SHA-1."""

    hash_algorithm: Annotated[AlgorithmIdentifier, asn1.Explicit(0)]
    mask_algorithm: Annotated[_MaskAlgorithm, asn1.Explicit(1)]
    salt_length: Annotated[int, asn1.Explicit(2)]


@asn1.sequence
class PssAlgorithm:
    """RSASSA-PSS with its parameters."""

    algorithm: x509.ObjectIdentifier
    parameters: PssParameters


@asn1.sequence
class Attribute:
    """A signed attribute with its values."""

    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class IssuerAndSerial:
    """Names a certificate."""

    issuer: asn1.TLV
    serial: int


@asn1.sequence
class SignerInfo:
    """What one signer signed, and how."""

    version: int
    signer: Annotated[bytes, asn1.Implicit(0)] | IssuerAndSerial
    digest_algorithm: AlgorithmIdentifier
    attributes: Annotated[asn1.SetOf[Attribute] | None, asn1.Implicit(0)]
    signature_algorithm: AlgorithmIdentifier
    signature: bytes
    unsigned: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class _EncapsulatedContent:
    content_type: x509.ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class _SignedData:
    version: int
    digest_algorithms: asn1.SetOf[AlgorithmIdentifier]
    content: _EncapsulatedContent
    # Lists, not sets: many writers do not sort these as DER asks for, and their order means nothing.
    certificates: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    crls: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _ContentInfo:
    content_type: x509.ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


class Signed(Struct, frozen=True):
    """A detached signature of one signer as it reads; nothing of it is verified."""

    signer: SignerInfo
    certificates: tuple[x509.Certificate, ...]


def read(kind: type[_T], der: bytes) -> _T:
    """
    Read *der* as one value of this kind.

    Raises:
        FailedError: it is none.
    """
    try:
        return asn1.decode_der(kind, der)
    except (ValueError, TypeError, OverflowError):
        raise FailedError("malformed") from None


def read_signed(signature: bytes) -> Signed:
    """
    Read a detached signature of exactly one signer.

    Raises:
        FailedError: it is none.
    """
    if len(signature) > 2 * MAX_BYTES:
        raise FailedError("too_large")
    der = _without_armour(signature)
    if len(der) > MAX_BYTES:
        raise FailedError("too_large")
    whole = read(_ContentInfo, der)
    data = whole.content
    types = (whole.content_type.dotted_string, data.content.content_type.dotted_string)
    if types != (SIGNED_DATA, DATA) or data.version not in (1, 3):
        raise FailedError("malformed")
    if data.content.content is not None:
        raise FailedError("not_detached")
    signers = data.signers.as_list()
    if len(signers) != 1:
        raise FailedError("several_signers" if signers else "malformed")
    signer = read(SignerInfo, asn1.encode_der(signers[0]))
    if signer.version != (3 if isinstance(signer.signer, bytes) else 1) or not _is_announced(signer, data):
        raise FailedError("malformed")
    return Signed(signer, _certificates(data.certificates or []))


def _is_announced(signer: SignerInfo, data: _SignedData) -> bool:
    own = signer.digest_algorithm
    return any(
        each.algorithm == own.algorithm
        and (isinstance(each.parameters, asn1.Null | None) or asn1.encode_der(each) == asn1.encode_der(own))
        for each in data.digest_algorithms.as_list()
    )


def _without_armour(signature: bytes) -> bytes:
    if signature[:1] == _SEQUENCE:
        return signature
    armour = _PEM.fullmatch(signature)
    if armour is None:
        raise FailedError("malformed")
    try:
        return base64.b64decode(b"".join(armour[2].split()), validate=True)
    except binascii.Error:
        raise FailedError("malformed") from None


def _certificates(found: list[asn1.TLV]) -> tuple[x509.Certificate, ...]:
    if len(found) > MAX_CERTIFICATES:
        raise FailedError("malformed")
    return tuple(_certificate(asn1.encode_der(each)) for each in found)


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # A signature is whole bytes: a last bit declared to be padding would make another certificate of the same one.
        if der[: -len(certificate.signature)].endswith(b"\x00"):
            return certificate
    except (ValueError, x509.InvalidVersion):
        pass
    raise FailedError("malformed")
