"""How commands reach a running sidecar."""

import httpx


def open_client(address: str, *, timeout: float = 10.0) -> httpx.Client:
    """
    Return a client of one listener; close it.  Proxies of the environment are none of its business.

    Args:
        address: An address as `serve` prints it (``host:port``, ``unix:/path``), or a URL.
        timeout: Seconds for each step of a call.
    """
    if address.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"))
        return httpx.Client(base_url="http://ruqsat", transport=transport, trust_env=False, timeout=timeout)
    url = address if "://" in address else f"http://{address}"
    return httpx.Client(base_url=url, trust_env=False, timeout=timeout)
