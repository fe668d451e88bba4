"""The vectors of vectors.yaml as bytes, made around a request that would be allowed."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from ruqsat.core.target import Target

FILE: dict[str, Any] = yaml.load(Path(__file__).with_name("vectors.yaml").read_text(), Loader=yaml.CSafeLoader)
_DEEP = 100_000
_BARE = "!$'()*,:@/?"


def raw(text: str) -> bytes:
    r"""Return the bytes of a vector: ``\xNN`` is the byte NN, and what needs more is UTF-8."""
    if max(text, default="") < "\u0100":
        return text.encode("latin-1")
    return b"".join(each.encode("latin-1") if ord(each) < 256 else each.encode() for each in text)


def spelled(target: Target) -> bytes:
    """Return the one spelling of an accepted target: its path and its names as they are, its values escaped."""
    query = "&".join(f"{name}={quote(value, safe=_BARE)}" for name, value in target.query)
    return (target.path + ("?" + query if query else "")).encode("ascii")


def targets(path: str, kind: str = "targets") -> list[bytes]:
    """Return the targets of *kind* made of *path*."""
    head, _, last = path.rpartition("/")
    parts = {
        "{path}": path, "{head}": head, "{last}": last, "{upper}": path.upper(),
        "{escaped}": "".join(f"%{ord(each):02x}" if each.isalnum() else each for each in last),
        "{ESCAPED}": "".join(f"%{ord(each):02X}" if each.isalnum() else each for each in last),
        "{long}": "x" * (2049 - len(path)), "{deep}": "/x" * 200, "{queries}": "&".join(f"a{n}=1" for n in range(200)),
    }  # fmt: skip
    return [raw(_filled(each, parts)) for each in FILE[kind]]


def headers(path: str, bearer: str, kind: str = "headers") -> list[list[bytes]]:
    """Return the header lines of *kind*, beside those of a request for *path* by *bearer*."""
    parts = {
        "{path}": path, "{bearer}": bearer, "{16 KiB}": "x" * 16_384, "{16 KiB of it}": "00-" + "a" * 12_000,
        "{65 headers}": "\r\n".join(f"X-{n}: a" for n in range(65)),
    }  # fmt: skip
    return [[raw(_filled(line, parts)) for line in each] for each in FILE[kind]]


def tokens(bearer: str, none: str) -> list[bytes]:
    """Return what may stand in the place of a good *bearer*; *none* says the same without a signature."""
    token = bearer.removeprefix("Bearer ")
    head, _, tail = token.partition(".")
    parts = {
        "{bearer}": bearer, "{token}": token, "{none}": none, "{head}": head, "{tail}": tail, "{9 KiB}": "x" * 9_000,
    }  # fmt: skip
    return [raw(_filled(each, parts)) for each in FILE["tokens"]]


def framing(method: str, path: str, good: bytes, host: str) -> list[bytes]:
    """Return requests that are framed in two ways or in none, with *good* hidden in them."""
    parts = {
        "{line}": f"{method} {path} HTTP/1.1", "{method}": method, "{path}": path, "{host}": host,
        "{n}": str(len(good)), "{good}": good.decode("latin-1"), "{1 MB}": "x" * 1_000_000,
        "{32 KiB}": "A" * 32_768, "{64 KiB of NUL}": "\0" * 65_536,
    }  # fmt: skip
    return [raw(_filled(each, parts)) for each in FILE["framing"]]


def bodies(question: dict[str, str], kind: str = "bodies") -> list[bytes]:
    """Return bodies made of an allowed *question*, whose parts are JSON."""
    members = ",".join(f'"{name}":{text}' for name, text in question.items())
    parts = {f"@{name.upper()}@": text for name, text in question.items()} | {
        "@MEMBERS@": members, "@GOOD@": f"{{{members}}}", "{5000 digits}": "9" * 5_000,
        "{deep}": "[" * _DEEP + "]" * _DEEP, "{2 MiB}": "x" * 2 * 1024 * 1024,
    }  # fmt: skip
    utf16 = f"{{{members}}}".encode("utf-16")
    return [utf16 if each == "{utf-16}" else raw(_filled(each, parts)) for each in FILE[kind]]


def _filled(text: str, parts: dict[str, str]) -> str:
    for name, value in parts.items():
        text = text.replace(name, value)
    return text
