"""
HAProxy's ``auth-request`` or a Lua ``httpclient``: the truth stands in ``X-Original-Method``, ``-URI`` and ``-Host``.

Neither sets these headers by itself; the configuration does, over whatever the client sent.
"""

from ruqsat.web.forward_auth.shared import Original, Scope, from_headers


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if a header of the three is missing or doubled."""
    return from_headers(scope, b"x-original-method", b"x-original-uri", b"x-original-host")
