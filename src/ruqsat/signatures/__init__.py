"""Verification of electronic digital signatures: CMS (RFC 5652), certificates (RFC 5280), revocation, plug-ins."""
