"""The port through which electronic digital signatures are verified."""

from typing import Protocol

from ruqsat.core.instant import Instant
from ruqsat.core.signature_finding import Finding, SignedContent


class SignatureVerifier(Protocol):
    """Verifies detached signatures; a plug-in for further algorithms is one too."""

    def verify(self, signature: bytes, content: SignedContent, at: Instant) -> Finding:
        """
        Return what is found of a signature handed in at this moment.

        Args:
            signature: CMS SignedData, in DER or PEM; anything at all may come.
            content: What it should be the signature of.
            at: The moment of receipt.

        Returns:
            Who signed what and when, or the one code of ``FAILURES`` that it fails.  It never raises for what
            was handed in, and neither logs nor repeats any of it.
        """
        ...
