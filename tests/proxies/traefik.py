"""
A stand-in for Traefik: no binary of it is at hand, so this follows what its source does (pkg/middlewares/auth/forward.go).

It reads the shipped dynamic configuration and does what that says: the headers middleware deletes, forwardAuth asks
with GET, relays what is not 2xx, and on 2xx deletes the copied headers from the request before it sets them; then the
request goes on, as Go's ReverseProxy sends it, without hop-by-hop headers and those that `Connection` names.  What
Traefik's entry point deletes by itself (`X-Forwarded-…` of clients) is left in: the file must do without.  It is not
Traefik: HTTP/2, TLS, its cleaning of paths and its parser are not here.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.proxies.raw import Reply, ask

Headers = list[tuple[str, str]]

HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "proxy-connection"}
)  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    """One request through the two middlewares of the file."""

    protocol_version = "HTTP/1.1"
    server: "_Traefik"

    def __getattr__(self, name: str) -> Any:
        """Answer whatever the method is."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        self.close_connection = True
        target = self.requestline.split(" ")[1]
        if not target.startswith("/") or "#" in target or not _is_escaped(target) or not self.headers.get("host"):
            self._say(Reply(400))
            return
        file = self.server.middlewares
        deleted = {
            name.lower() for name, value in file["clean"]["headers"]["customRequestHeaders"].items() if not value
        }
        sent = [(name, value) for name, value in self.headers.items() if name.lower() not in deleted]
        target = target.replace("\\", "%5C")
        try:
            answer = self._asked(file["auth"]["forwardAuth"], sent, target)
        except OSError:
            answer = Reply(0)
        if answer.status == 0:
            self._say(Reply(500))
        elif not 200 <= answer.status < 300:
            self._say(answer)
        else:
            self._say(self._forwarded(file["auth"]["forwardAuth"], sent, target, answer))

    def _asked(self, auth: dict[str, Any], sent: Headers, target: str) -> Reply:
        """Ask as `writeHeader` prepares it."""
        told = without_hops(sent)
        allowed = {name.lower() for name in auth.get("authRequestHeaders", ())}
        told = [(name, value) for name, value in told if not allowed or name.lower() in allowed]
        truth = {
            "X-Forwarded-Method": self.command,
            "X-Forwarded-Uri": target,
            "X-Forwarded-Host": self.headers["host"],
        }
        truth |= {"X-Forwarded-Proto": "http", "X-Forwarded-For": self.client_address[0]}
        client = {name.lower(): value for name, value in reversed(sent)}
        if auth["trustForwardHeader"]:
            truth = {name: client.get(name.lower()) or value for name, value in truth.items()}
        names = {name.lower() for name in truth}
        told = [(name, value) for name, value in told if name.lower() not in names | {"host"}]
        url = urlsplit(auth["address"])
        lines = [f"{name}: {value}" for name, value in [*told, *truth.items()]]
        return ask(url.port or 80, "GET", url.path, f"Host: {url.netloc}", "Connection: close", *lines)

    def _forwarded(self, auth: dict[str, Any], sent: Headers, target: str, answer: Reply) -> Reply:
        for copied in auth["authResponseHeaders"]:
            sent = [(name, value) for name, value in sent if name.lower() != copied.lower()]
            if copied.lower() in answer.headers:
                sent.append((copied, answer.headers[copied.lower()]))
        lines = [f"{name}: {value}" for name, value in without_hops(sent)]
        return ask(self.server.upstream, self.command, target, *lines, "Connection: close")

    def _say(self, reply: Reply) -> None:
        self.send_response(reply.status or 502)
        for name, value in reply.headers.items():
            if name not in HOP | {"content-length", "date", "server"}:
                self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else reply.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Traefik(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    middlewares: dict[str, Any]
    upstream: int


def without_hops(headers: Headers) -> Headers:
    """Return headers without those of one connection, and without what `Connection` names."""
    listed = [value for name, value in headers if name.lower() == "connection"]
    named = {each.strip().lower() for value in listed for each in value.split(",")}
    return [(name, value) for name, value in headers if name.lower() not in HOP | named]


def _is_escaped(target: str) -> bool:
    """Tell whether every escape of a target is one: Go refuses others."""
    rest = target.partition("?")[0].split("%")[1:]
    return all(len(each) >= 2 and all(digit in "0123456789abcdefABCDEF" for digit in each[:2]) for each in rest)


@contextmanager
def running_traefik(dynamic: str) -> Iterator[int]:
    """Do what a dynamic configuration says, on a free port, which is yielded."""
    file = yaml.safe_load(dynamic)["http"]
    (router,) = file["routers"].values()
    clean, auth = (file["middlewares"][name] for name in router["middlewares"])
    server = _Traefik(("127.0.0.1", 0), _Handler)
    server.middlewares = {"clean": clean, "auth": auth}
    server.upstream = urlsplit(file["services"][router["service"]]["loadBalancer"]["servers"][0]["url"]).port or 80
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
