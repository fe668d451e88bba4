"""Traefik's ``forwardAuth``: the truth stands in ``X-Forwarded-Method``, ``-Uri`` and ``-Host``; Traefik sets them.

It does so only with ``trustForwardHeader: false``, which is its default: with
``true`` a client's own headers would be believed.
"""

from ruqsat.web.forward_auth.shared import Original, Scope, from_headers


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if a header of the three is missing or doubled."""
    return from_headers(scope, b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-host")
