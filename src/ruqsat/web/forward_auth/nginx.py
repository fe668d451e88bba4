"""nginx's ``auth_request``: the truth stands in ``X-Original-Method``, ``X-Original-URI`` and ``X-Original-Host``."""

from ruqsat.web.forward_auth.shared import Original, Scope, original, single


def read_original(scope: Scope) -> Original:
    """Return the original request; raises BadPepRequest if a header of the three is missing or doubled."""
    headers = scope["headers"]
    return original(
        single(headers, b"x-original-method"), single(headers, b"x-original-uri"), single(headers, b"x-original-host")
    )
