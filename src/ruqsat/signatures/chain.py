"""Whether a signer's certificate leads to a root at a moment, may sign documents, and is not revoked."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import verification

from ruqsat.core.instant import SECOND, Instant
from ruqsat.signatures.algorithms import HASHES, KNOWN_KEYS
from ruqsat.signatures.cms_syntax import FailedError
from ruqsat.signatures.trust import RevocationLists, Trust

MAX_INTERMEDIATES = 4
_STRONG = tuple(HASHES.values())
_BAD_EXTENSIONS = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def moment_of(instant: Instant) -> datetime:
    """Return an instant as certificates know time, to the second."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=instant // SECOND)


class Chains:
    """Builds and verifies chains from these roots; a certificate's own statements about trust count for nothing."""

    def __init__(self, trust: Trust, revoked: RevocationLists | None) -> None:
        self._trust, self._revoked = trust, revoked
        self._store = verification.Store(list(trust.roots)) if trust.roots else None

    def verify(
        self, leaf: x509.Certificate, others: tuple[x509.Certificate, ...], signed_at: Instant, at: Instant
    ) -> tuple[x509.Certificate, ...]:
        """
        Return the chain from the signer's certificate to a root.

        It must hold both when the signer says that it was signed and when it is handed
        in: the first is the signer's word, and a key may be stolen after its certificate
        ended.

        Raises:
            FailedError: there is no such chain, or it must not be used.
        """
        _refuse_usage(leaf)
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if moment_of(signed_at) < begins:
            raise FailedError("certificate_not_yet_valid")
        if moment_of(signed_at) > ends:
            raise FailedError("certificate_expired")
        chain = self._built(leaf, others, signed_at)
        if moment_of(at) > ends:
            raise FailedError("certificate_expired_since")
        chain = self._built(leaf, others, max(at, signed_at))
        if self._revoked is not None:
            for certificate, issuer in pairwise(chain):
                _refuse_revoked(certificate, issuer, self._revoked, at)
        return chain

    def _built(
        self, leaf: x509.Certificate, others: tuple[x509.Certificate, ...], at: Instant
    ) -> tuple[x509.Certificate, ...]:
        if self._store is None:
            raise FailedError("not_trusted")
        builder = verification.PolicyBuilder().store(self._store).time(moment_of(at).replace(tzinfo=None))
        builder = builder.max_chain_depth(MAX_INTERMEDIATES).extension_policies(ca_policy=_CA, ee_policy=_SIGNER)
        try:
            found = builder.build_client_verifier().verify(leaf, [*others, *self._trust.intermediates])
        except (verification.VerificationError, UnsupportedAlgorithm, *_BAD_EXTENSIONS):
            raise FailedError(_why_not(leaf, others)) from None
        if any(_constrains_directory_names(each) for each in found.chain[1:]):
            # The library looks at alternative names only, and people's names are directory names.
            raise FailedError("not_trusted")
        return tuple(found.chain)


_AGNOSTIC = verification.Criticality.AGNOSTIC
_CA = verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.ExtendedKeyUsage, _AGNOSTIC, None)
"""As for the web; what else an authority's key is for is the law's business, not the web's."""


def _no_authority(
    _policy: verification.Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("an authority's certificate signs no documents")


_SIGNER = (
    verification.ExtensionPolicy.permit_all()
    .require_present(x509.KeyUsage, _AGNOSTIC, None)
    .may_be_present(x509.BasicConstraints, _AGNOSTIC, _no_authority)
    .require_not_present(x509.NameConstraints)
)


def _refuse_usage(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise FailedError("key_usage") from None
    except _BAD_EXTENSIONS:
        raise FailedError("malformed") from None
    if not usage.content_commitment:
        raise FailedError("key_usage")


def _constrains_directory_names(authority: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    names = (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))
    return any(isinstance(each, x509.DirectoryName) for each in names)


def _why_not(leaf: x509.Certificate, others: tuple[x509.Certificate, ...]) -> str:
    """Return the likeliest code for a chain that was refused: the library gives its reason in prose alone."""
    for each in (leaf, *others):
        if each.public_key_algorithm_oid.dotted_string not in KNOWN_KEYS:
            return "algorithm_not_supported"
        if not _is_strong(each):
            return "algorithm_weak"
    return "not_trusted"


def _is_strong(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    try:
        return isinstance(signed.signature_hash_algorithm, _STRONG)
    except UnsupportedAlgorithm:
        return False


def _refuse_revoked(
    certificate: x509.Certificate, issuer: x509.Certificate, lists: RevocationLists, at: Instant
) -> None:
    current = [each for each in lists.by(certificate.issuer) if _is_current(each, issuer, at)]
    if not current:
        raise FailedError("revocation_unknown")
    # Whenever it was revoked: that the signature is older is only the signer's word.
    if any(each.get_revoked_certificate_by_serial_number(certificate.serial_number) for each in current):
        raise FailedError("revoked")


def _is_current(found: x509.CertificateRevocationList, issuer: x509.Certificate, at: Instant) -> bool:
    until = found.next_update_utc
    if until is None or not found.last_update_utc <= moment_of(at) < until or not _is_strong(found):
        return False
    try:
        # A list of changes, of one reason or of other kinds of certificates is not the whole list.
        partial = any(each.critical for each in found.extensions)
        return not partial and found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (UnsupportedAlgorithm, TypeError, *_BAD_EXTENSIONS):
        return False


def fingerprints(chain: tuple[x509.Certificate, ...]) -> tuple[str, ...]:
    """Return what names the certificates of a chain for ever."""
    return tuple(each.fingerprint(SHA256()).hex() for each in chain)
