"""The algorithms that are verified here, and the verdict on every other."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from ruqsat.signatures.cms_syntax import AlgorithmIdentifier, FailedError, PssAlgorithm, read

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
CURVES = ("secp256r1", "secp384r1", "secp521r1")

HASHES: dict[str, type[hashes.SHA256] | type[hashes.SHA384] | type[hashes.SHA512]] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
}
_RSA, _PSS, _MGF1 = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8"
_RSA_WITH = {
    "1.2.840.113549.1.1.11": hashes.SHA256,
    "1.2.840.113549.1.1.12": hashes.SHA384,
    "1.2.840.113549.1.1.13": hashes.SHA512,
}
_ECDSA_WITH = {
    "1.2.840.10045.4.3.2": hashes.SHA256,
    "1.2.840.10045.4.3.3": hashes.SHA384,
    "1.2.840.10045.4.3.4": hashes.SHA512,
}
KNOWN_KEYS = frozenset({_RSA, "1.2.840.10045.2.1"})
KNOWN_SIGNATURES = frozenset({_RSA, _PSS, *_RSA_WITH, *_ECDSA_WITH})
WEAK = frozenset({
    "1.2.840.113549.2.2", "1.2.840.113549.2.5", "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.4",
    "1.2.840.113549.1.1.2", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.113549.1.1.14", "1.3.14.3.2.29",
    "1.2.840.10045.4.1", "1.2.840.10045.4.3.1", "1.2.840.10040.4.3", "2.16.840.1.101.3.4.3.2",
})  # fmt: skip
"""MD2, MD5, SHA-1, SHA-224, alone, with RSA, with ECDSA; DSA."""


def refuse_algorithm(oid: str, known: frozenset[str]) -> None:
    """
    Let known algorithms pass.

    Raises:
        FailedError: it is a weak one, or one that nothing here verifies.
    """
    if oid not in known:
        raise FailedError("algorithm_weak" if oid in WEAK else "algorithm_not_supported")


def hash_of(algorithm: AlgorithmIdentifier) -> hashes.HashAlgorithm:
    """
    Return the hash that is meant.

    Raises:
        FailedError: a weak or unknown one, or with parameters, which none of them has.
    """
    oid = algorithm.algorithm.dotted_string
    refuse_algorithm(oid, frozenset(HASHES))
    if not isinstance(algorithm.parameters, asn1.Null | None):
        raise FailedError("malformed")
    return HASHES[oid]()


def verify_signature(
    key: CertificatePublicKeyTypes,
    algorithm: AlgorithmIdentifier,
    digest: hashes.HashAlgorithm,
    signature: bytes,
    data: bytes,
) -> str:
    """
    Verify one signature, and return the name of what it was made with.

    Raises:
        FailedError: the key did not make it, is too weak, or algorithm, hash and key do not belong together.
    """
    oid = algorithm.algorithm.dotted_string
    refuse_algorithm(oid, KNOWN_SIGNATURES)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise FailedError("algorithm_weak")
            name, pad = _rsa_padding(oid, algorithm, digest)
            key.verify(signature, data, pad, digest)
            return f"{name}-{digest.name.upper()}"
        if isinstance(key, ec.EllipticCurvePublicKey):
            if key.curve.name not in CURVES:
                raise FailedError("algorithm_weak")
            _same_hash(_ECDSA_WITH.get(oid), algorithm, digest)
            key.verify(signature, data, ec.ECDSA(digest))
            return f"ECDSA-{digest.name.upper()}"
    except (InvalidSignature, ValueError):
        raise FailedError("signature_wrong") from None
    raise FailedError("algorithm_not_supported")


def _rsa_padding(
    oid: str, algorithm: AlgorithmIdentifier, digest: hashes.HashAlgorithm
) -> tuple[str, padding.AsymmetricPadding]:
    if oid != _PSS:
        _same_hash(type(digest) if oid == _RSA else _RSA_WITH.get(oid), algorithm, digest)
        return "RSA", padding.PKCS1v15()
    stated = read(PssAlgorithm, asn1.encode_der(algorithm)).parameters
    mask = stated.mask_algorithm
    if mask.algorithm.dotted_string != _MGF1 or not 0 <= stated.salt_length <= MAX_RSA_BITS // 8:
        raise FailedError("algorithm_not_supported")
    for each in (stated.hash_algorithm, mask.parameters):
        if hash_of(each).name != digest.name:
            raise FailedError("signature_wrong")
    return "RSA-PSS", padding.PSS(padding.MGF1(digest), stated.salt_length)


def _same_hash(
    stated: type[hashes.HashAlgorithm] | None, algorithm: AlgorithmIdentifier, digest: hashes.HashAlgorithm
) -> None:
    if stated is None or not isinstance(digest, stated) or not isinstance(algorithm.parameters, asn1.Null | None):
        raise FailedError("signature_wrong")
