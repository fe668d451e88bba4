"""
Envoy's ``ext_authz`` over HTTP: the original method and target are the request's own.

Envoy puts ``path_prefix`` before the original target, query included.  No header
is read but ``Host``, so none can be forged.
"""

from ruqsat.web.forward_auth.shared import BadPepRequest, Original, Scope, original, single
from ruqsat.web.protocol import TARGET

PREFIX = b"/authz/envoy"


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if the target does not carry the prefix."""
    target: bytes = scope[TARGET]
    if not target.startswith(PREFIX + b"/"):
        raise BadPepRequest
    return original(scope["method"].encode("ascii"), target.removeprefix(PREFIX), single(scope["headers"], b"host"))
