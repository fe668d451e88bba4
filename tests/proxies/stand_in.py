"""A stand-in for the sidecar that answers badly: slowly, wrongly, or not at all."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket], None]

LATE_SECONDS = 2.0
"""Longer than the second that the examples give the sidecar."""


class StandIn:
    """Accepts on a free port and treats each request as ``behaviour`` says; counts them in ``asked``."""

    def __init__(self, listener: socket.socket) -> None:
        self.port = int(listener.getsockname()[1])
        self.behaviour: Behaviour = says(b"")
        self.asked = 0
        self._listener = listener
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Accept until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._treat, args=(connection,), daemon=True).start()

    def _treat(self, connection: socket.socket) -> None:
        # A proxy that has given up closes its end: that is what it should do.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            if not _read_head(connection):
                return
            with self._lock:
                self.asked += 1
            self.behaviour(connection)


@contextlib.contextmanager
def running_stand_in() -> Iterator[StandIn]:
    """Run a stand-in; its behaviour can be changed at any time."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        stand_in = StandIn(listener)
        thread = threading.Thread(target=stand_in.serve, daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(answer: bytes) -> Behaviour:
    """Return a behaviour that sends these bytes and closes."""
    return lambda connection: connection.sendall(answer)


def says_late(answer: bytes) -> Behaviour:
    """Return a behaviour that sends these bytes when the proxy should have given up."""

    def behave(connection: socket.socket) -> None:
        time.sleep(LATE_SECONDS)
        connection.sendall(answer)

    return behave


def trickles(answer: bytes) -> Behaviour:
    """Return a behaviour that sends a byte now and then, so that something always happens, and never gets done."""

    def behave(connection: socket.socket) -> None:
        for byte in answer[:10]:
            connection.sendall(bytes((byte,)))
            time.sleep(LATE_SECONDS / 10)

    return behave


def falls_silent(answer: bytes) -> Behaviour:
    """Return a behaviour that sends these bytes and then nothing, without closing."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(answer)
        time.sleep(LATE_SECONDS)

    return behave


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65_536)
        if not part:
            return b""
        head += part
    return head
