"""
A small records server to put behind a proxy: it answers every request with what it was asked, and keeps a list.

    python examples/records_server.py 127.0.0.1:9000

It decides nothing: whatever reaches it was let through by the proxy.
"""

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Records(BaseHTTPRequestHandler):
    """Answers 200 to every method, with the request as it arrived."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "RecordsServer"

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Answer whatever the method is."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def parse_request(self) -> bool:
        """Keep what cannot be read, too: it did get here."""
        readable = super().parse_request()
        if not readable:
            self.server.seen.append({"unreadable": self.requestline})
        return readable

    def _answer(self) -> None:
        # The target as it was sent: `self.path` is a tidied copy.
        target = self.requestline.split(" ")[1]
        seen = {"method": self.command, "target": target, "headers": self._headers(), "body": self._body()}
        self.server.seen.append(seen)
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _headers(self) -> dict[str, str]:
        """Return the headers; one that was sent twice shows both values."""
        names = dict.fromkeys(name.lower() for name in self.headers)
        return {name: ", ".join(self.headers.get_all(name, [])) for name in names}

    def _body(self) -> str:
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            return self.rfile.read(int(self.headers.get("content-length") or 0)).decode("latin-1")
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body.decode("latin-1")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class RecordsServer(ThreadingHTTPServer):
    """``seen`` lists every request that reached it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Records)
        self.seen: list[dict[str, Any]] = []


if __name__ == "__main__":
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000").rpartition(":")
    try:
        RecordsServer((host, int(port))).serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
