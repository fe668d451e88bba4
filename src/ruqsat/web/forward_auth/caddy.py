"""Caddy's ``forward_auth``: the truth stands in ``X-Forwarded-Method``, ``-Uri`` and ``-Host``; Caddy sets them."""

from ruqsat.web.forward_auth.shared import Original, Scope, original, single


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if a header of the three is missing or doubled."""
    headers = scope["headers"]
    return original(
        single(headers, b"x-forwarded-method"),
        single(headers, b"x-forwarded-uri"),
        single(headers, b"x-forwarded-host"),
    )
