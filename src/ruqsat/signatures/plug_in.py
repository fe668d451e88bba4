"""
A verifier for further algorithms, such as GOST 34.310, that the deployer installs and names.

It is code of the deployer's choice and is believed: what it calls verified is
verified.  Only its failures, and findings that cannot be one, are caught.
"""

import importlib
import logging

from ruqsat.core.instant import Instant
from ruqsat.core.signature_finding import CLOCK_TOLERANCE, FAILURES, Finding, SignedContent
from ruqsat.errors import SettingsError
from ruqsat.service.signatures import SignatureVerifier

_log = logging.getLogger(__name__)


class PlugIn:
    """A verifier that somebody else wrote; what it raises is a finding too."""

    def __init__(self, inner: SignatureVerifier) -> None:
        self._inner = inner

    def verify(self, signature: bytes, content: SignedContent, at: Instant) -> Finding:
        """Return what it finds; promises as ``SignatureVerifier``."""
        try:
            found = self._inner.verify(signature, content, at)
            if _is_finding(found, content, at):
                return found
            _log.warning("signature_plug_in_failed error=no finding")
        except Exception as error:  # noqa: BLE001 - the failure of a plug-in helps no signature
            _log.warning("signature_plug_in_failed error=%s", type(error).__name__)
        return Finding("verifier_failed")


def _is_finding(found: object, content: SignedContent, at: Instant) -> bool:
    if not isinstance(found, Finding):
        return False
    if found.failure is not None:
        return found.failure in FAILURES
    whole = (found.iin or found.bin) and found.serial and found.algorithm and found.digest
    if not whole or found.signed_at is None or found.valid_from is None or found.valid_to is None:
        return False
    same = content.digest is None or content.digest.hex() == found.digest
    return same and found.signed_at <= at + CLOCK_TOLERANCE and found.valid_from <= found.signed_at <= found.valid_to


def load_plug_in(name: str) -> SignatureVerifier:
    """
    Return the verifier that ``module:factory`` makes; the factory takes nothing.

    Raises:
        SettingsError: there is no such module or factory, it raised, or what it made verifies nothing.
    """
    module, _, factory = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), factory)()
    except ImportError as error:
        raise SettingsError(f"`{module}` cannot be imported: {type(error).__name__}") from error
    except AttributeError as error:
        raise SettingsError(f"`{module}` has no `{factory}`, or it failed") from error
    except Exception as error:
        raise SettingsError(f"`{name}` failed: {type(error).__name__}") from error
    if not callable(getattr(made, "verify", None)):
        raise SettingsError(f"what `{name}` makes has no `verify`")
    return PlugIn(made)
