"""
What a verification of an electronic digital signature found, as a value (order §9(10), §10, §29).

A negative finding says which of a closed list it failed and nothing else: what a
certificate claims that was not verified is worth nothing, and names people.
"""

from msgspec import Struct

from ruqsat.core.instant import MINUTE, Instant

CLOCK_TOLERANCE = 5 * MINUTE
"""How far the clocks of signers, callers and this process may lie apart."""

FAILURES = {
    "malformed": "a CMS SignedData in DER or PEM, whole and with nothing after it (RFC 5652)",
    "too_large": "a signature of 48 KiB at most",
    "not_detached": "a detached signature: the document itself is no part of it",
    "several_signers": "the signature of exactly one signer",
    "content_missing": "the signed document, or its hash",
    "hash_mismatch": "the hash of the document that was handed in",
    "content_differs": "a signature of this very document",
    "attributes_wrong": "the signed attributes contentType and messageDigest once each, and a signing certificate "
    "that is the signer's",
    "signing_time_missing": "a signature that says, signed, when it was made",
    "in_future": "a moment that has come",
    "other_time": "a signature made when the document says that it was signed",
    "certificate_missing": "a signature that carries the signer's certificate",
    "signature_wrong": "a signature that the key of its certificate made",
    "algorithm_weak": "SHA-256 or stronger, RSA of 2048 bits or more, or ECDSA on P-256, P-384 or P-521",
    "algorithm_not_supported": "an algorithm that is verified here; those of GOST 34.310 and others need a plug-in: "
    "RUQSAT_SIGNATURE_PLUGIN names one as `module:factory`",
    "not_trusted": "a certificate that leads to a root of RUQSAT_SIGNATURE_TRUST",
    "certificate_not_yet_valid": "a certificate that was already valid when it signed",
    "certificate_expired": "a certificate that was still valid when it signed",
    "certificate_expired_since": "a signature handed in while its certificate is valid: "
    "nothing else proves when it was made",
    "several_holders": "a certificate of one person, and of one organisation at most",
    "key_usage": "a certificate whose key may sign documents (nonRepudiation)",
    "revoked": "a certificate that is not revoked",
    "revocation_unknown": "a current list of revoked certificates by this issuer in RUQSAT_SIGNATURE_CRLS",
    "certificate_differs": "what the certificate itself says, or nothing",
    "wrong_signer": "the signature of the one who gives the document",
    "verifier_failed": "another attempt later; the verifier did not come to a finding",
}
"""Every way to fail, with what to hand in instead."""


class Finding(Struct, frozen=True, omit_defaults=True):
    """
    One finding: verified if ``failure`` is None.

    Attributes:
        iin: Individual identification number that the certificate is issued to.
        bin: Identification number of the organisation whose certificate it is, None for a person's own.
        serial: Serial number of the certificate, lower-case hexadecimal.
        signed_at: When the signer says that it was signed.
        valid_from: Beginning of the certificate's validity.
        valid_to: Its end.
        algorithm: What it was signed with, such as ``RSA-SHA256``.
        digest: Hash of the signed document, lower-case hexadecimal.
        chain: SHA-256 fingerprints of the certificates, from the signer's to the root's.
    """

    failure: str | None = None
    iin: str | None = None
    bin: str | None = None
    serial: str | None = None
    signed_at: Instant | None = None
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    algorithm: str | None = None
    digest: str | None = None
    chain: tuple[str, ...] = ()


class SignedContent(Struct, frozen=True):
    """What was signed: the document itself, its hash, or both, which then must agree."""

    document: bytes | None = None
    digest: bytes | None = None


def same_serial(stated: str, serial: str | None) -> bool:
    """
    Tell whether a serial number written by hand is this one: case, separators and leading zeros do not count.

    Examples:
        >>> same_serial("00:AB:CD", "abcd"), same_serial("abce", "abcd"), same_serial("", None)
        (True, False, False)
    """
    plain = stated.lower().removeprefix("0x").translate({ord(each): None for each in ": -"}).lstrip("0")
    return serial is not None and plain == serial
