"""Just enough HTTP/2 in the clear to send one request whose fields no library would accept."""

import contextlib
import socket
import time

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_SECONDS = 5


def exchange(port: int, fields: list[tuple[str, str]]) -> None:
    """Send one request with exactly these fields and wait until its stream or the connection ends."""
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, block)
        )
        with contextlib.suppress(OSError, EOFError):
            _wait_for_end(connection)


def _wait_for_end(connection: socket.socket) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        head = _read(connection, 9)
        _read(connection, int.from_bytes(head[:3], "big"))
        ends = head[3] in (_DATA, _HEADERS) and head[4] & _END_STREAM
        if head[3] in (_RESET, _GOAWAY) or ends:
            return
    raise AssertionError("no end of the stream")


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    """Encode a string without Huffman coding (RFC 7541 §5.2)."""
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, b""
    while rest >= 128:
        length += bytes((rest % 128 + 128,))
        rest //= 128
    return b"\x7f" + length + bytes((rest,)) + data
