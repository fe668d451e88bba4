"""
A small records server to put behind a proxy: it answers every request with what it was asked, and keeps a list.

    python examples/records_server.py 127.0.0.1:9000

It decides nothing: whatever reaches it was let through by the proxy.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Records(BaseHTTPRequestHandler):
    """Answers 200 with the request as it arrived."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        seen = {"method": self.command, "target": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        self.server.seen.append(seen)  # type: ignore[attr-defined]
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def records_server(address: tuple[str, int]) -> ThreadingHTTPServer:
    """Return a server whose ``seen`` lists every request that reached it."""
    server = ThreadingHTTPServer(address, Records)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    return server


if __name__ == "__main__":
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000").rpartition(":")
    records_server((host, int(port))).serve_forever()
