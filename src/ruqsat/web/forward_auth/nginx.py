"""nginx's ``auth_request``: the truth stands in ``X-Original-Method``, ``X-Original-URI`` and ``X-Original-Host``."""

from ruqsat.web.forward_auth.shared import Original, Scope, from_headers


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if a header of the three is missing or doubled."""
    return from_headers(scope, b"x-original-method", b"x-original-uri", b"x-original-host")
