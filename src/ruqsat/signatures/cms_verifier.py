"""Verification of a detached CMS signature: content, signed attributes, signature, certificate, in this order."""

import hashlib
import hmac
import logging

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.signature_finding import CLOCK_TOLERANCE, Finding, SignedContent
from ruqsat.service.signatures import SignatureVerifier
from ruqsat.signatures.algorithms import (
    HASHES,
    KNOWN_KEYS,
    KNOWN_SIGNATURES,
    hash_of,
    refuse_algorithm,
    verify_signature,
)
from ruqsat.signatures.certificate import bin_of, iin_of
from ruqsat.signatures.chain import Chains, fingerprints
from ruqsat.signatures.cms_syntax import DATA, AlgorithmIdentifier, FailedError, Signed, SignerInfo, read, read_signed
from ruqsat.signatures.trust import RevocationLists, Trust

_log = logging.getLogger(__name__)

CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.5"
SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"


class CmsVerifier:
    """
    Verifies with RSA (PKCS #1 v1.5, PSS) and ECDSA against a trust store; what it does not know goes to a plug-in.

    Promises as ``SignatureVerifier``.
    """

    def __init__(
        self, trust: Trust, revoked: RevocationLists | None = None, plug_in: SignatureVerifier | None = None
    ) -> None:
        self._chains, self._plug_in = Chains(trust, revoked), plug_in

    def verify(self, signature: bytes, content: SignedContent, at: Instant) -> Finding:
        """Return what is found."""
        try:
            return self._verified(signature, content, at)
        except FailedError as failed:
            if failed.code != "algorithm_not_supported" or self._plug_in is None:
                return Finding(failed.code)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            # Certificates are read part by part, as each is asked for.
            return Finding("malformed")
        except Exception as error:  # noqa: BLE001 - whatever was handed in, the answer is a finding
            _log.warning("signature_verifier_failed error=%s", type(error).__name__)
            return Finding("verifier_failed")
        return self._plug_in.verify(signature, content, at)

    def _verified(self, signature: bytes, content: SignedContent, at: Instant) -> Finding:
        signed = read_signed(signature)
        signer = signed.signer
        leaf = _leaf(signed)
        _refuse_foreign_algorithms(signer, leaf)
        digest = hash_of(signer.digest_algorithm)
        attributes = _attributes(signer)
        stated = read(bytes, _one(attributes, MESSAGE_DIGEST, "attributes_wrong"))
        if read(x509.ObjectIdentifier, _one(attributes, CONTENT_TYPE, "attributes_wrong")).dotted_string != DATA:
            raise FailedError("attributes_wrong")
        _refuse_other_content(content, digest, stated)
        signed_at = _time(_one(attributes, SIGNING_TIME, "signing_time_missing"))
        _refuse_other_certificate(attributes, leaf)
        # What is signed is the DER of the attributes as a SET OF, whatever tag they travel under (RFC 5652 §5.4).
        data = asn1.encode_der(signer.attributes)
        name = verify_signature(_key(leaf), signer.signature_algorithm, digest, signer.signature, data)
        if signed_at > at + CLOCK_TOLERANCE:
            raise FailedError("in_future")
        chain = self._chains.verify(leaf, signed.certificates, signed_at, at)
        return _finding(leaf, chain, name, signed_at, stated)


def _leaf(signed: Signed) -> x509.Certificate:
    wanted = signed.signer.signer
    for each in signed.certificates:
        if isinstance(wanted, bytes):
            if _key_identifier(each) == wanted:
                return each
        elif each.serial_number == wanted.serial and each.issuer.public_bytes() == asn1.encode_der(wanted.issuer):
            return each
    raise FailedError("certificate_missing")


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _refuse_foreign_algorithms(signer: SignerInfo, leaf: x509.Certificate) -> None:
    """Refuse algorithms that are not verified here, such as GOST, before anything: the signature need not be wrong."""
    refuse_algorithm(signer.digest_algorithm.algorithm.dotted_string, frozenset(HASHES))
    refuse_algorithm(signer.signature_algorithm.algorithm.dotted_string, KNOWN_SIGNATURES)
    refuse_algorithm(leaf.public_key_algorithm_oid.dotted_string, KNOWN_KEYS)


def _key(leaf: x509.Certificate) -> CertificatePublicKeyTypes:
    try:
        return leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise FailedError("algorithm_not_supported") from None


def _attributes(signer: SignerInfo) -> dict[str, list[asn1.TLV]]:
    found: dict[str, list[asn1.TLV]] = {}
    for each in signer.attributes.as_list() if signer.attributes is not None else ():
        if each.type.dotted_string in found:
            raise FailedError("attributes_wrong")
        found[each.type.dotted_string] = each.values.as_list()
    return found


def _one(attributes: dict[str, list[asn1.TLV]], type_: str, code: str) -> bytes:
    values = attributes.get(type_, [])
    if len(values) != 1:
        raise FailedError(code if not values else "attributes_wrong")
    return asn1.encode_der(values[0])


def _refuse_other_content(content: SignedContent, digest: hashes.HashAlgorithm, stated: bytes) -> None:
    if content.document is None and content.digest is None:
        raise FailedError("content_missing")
    if content.document is not None:
        made = hashes.Hash(digest)
        made.update(content.document)
        actual = made.finalize()
        if content.digest is not None and not hmac.compare_digest(actual, content.digest):
            raise FailedError("hash_mismatch")
    else:
        actual = content.digest or b""
    if not hmac.compare_digest(actual, stated):
        raise FailedError("content_differs")


def _time(der: bytes) -> Instant:
    if der[:1] == b"\x17":
        moment = read(asn1.UTCTime, der).as_datetime()
    else:
        moment = read(asn1.GeneralizedTime, der).as_datetime()
    return int(moment.timestamp()) * SECOND


@asn1.sequence
class _CertificateId:
    hash: bytes
    issuer: list[asn1.TLV] | None


@asn1.sequence
class _CertificateIdV2:
    algorithm: AlgorithmIdentifier | None
    hash: bytes
    issuer: list[asn1.TLV] | None


@asn1.sequence
class _SigningCertificate:
    certificates: list[_CertificateId]
    policies: list[asn1.TLV] | None


@asn1.sequence
class _SigningCertificateV2:
    certificates: list[_CertificateIdV2]
    policies: list[asn1.TLV] | None


def _refuse_other_certificate(attributes: dict[str, list[asn1.TLV]], leaf: x509.Certificate) -> None:
    """Refuse a signature whose signed attributes name another certificate than this one (RFC 5035)."""
    der = leaf.public_bytes(Encoding.DER)
    if SIGNING_CERTIFICATE in attributes:
        first = read(_SigningCertificate, _one(attributes, SIGNING_CERTIFICATE, "attributes_wrong")).certificates[:1]
        # SHA-1 by its definition; it may only refuse here.
        if not first or first[0].hash != hashlib.sha1(der, usedforsecurity=False).digest():
            raise FailedError("attributes_wrong")
    if SIGNING_CERTIFICATE_V2 in attributes:
        second = read(_SigningCertificateV2, _one(attributes, SIGNING_CERTIFICATE_V2, "attributes_wrong")).certificates
        if not second:
            raise FailedError("attributes_wrong")
        algorithm = hashes.SHA256() if second[0].algorithm is None else hash_of(second[0].algorithm)
        if second[0].hash != leaf.fingerprint(algorithm):
            raise FailedError("attributes_wrong")


def _finding(
    leaf: x509.Certificate, chain: tuple[x509.Certificate, ...], name: str, signed_at: Instant, digest: bytes
) -> Finding:
    return Finding(
        iin=iin_of(leaf),
        bin=bin_of(leaf),
        serial=f"{leaf.serial_number:x}",
        signed_at=signed_at,
        valid_from=int(leaf.not_valid_before_utc.timestamp()) * SECOND,
        valid_to=int(leaf.not_valid_after_utc.timestamp()) * SECOND,
        algorithm=name,
        digest=digest.hex(),
        chain=fingerprints(chain),
    )
