"""Caddy's ``forward_auth``: the truth stands in ``X-Forwarded-Method``, ``-Uri`` and ``-Host``; Caddy sets them."""

from ruqsat.web.forward_auth.shared import Original, Scope, from_headers


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if a header of the three is missing or doubled."""
    return from_headers(scope, b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-host")
