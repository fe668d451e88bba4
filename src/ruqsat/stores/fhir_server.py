"""
A FHIR server as a store of the truth about its records: one is asked for at a time, over HTTP.

The file of servers (``RUQSAT_FHIR_SERVERS``) says for each base of ``routes.toml`` where
the server itself is reached and by what we prove who we are.  Redirections are never
followed, proxies of the environment not used, cookies not kept; an answer is read only
as far as it may be long.
"""

import ssl
import tomllib
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from msgspec import Meta, Struct

from ruqsat.core.fhir.records import MAX_RECORD_BYTES
from ruqsat.core.fhir.references import is_id
from ruqsat.errors import SettingsError, StoreUnavailableError

MAX_TOKEN_BYTES = 8192
_JSON = ("application/fhir+json", "application/json")
_NOT_THERE = (404, 410)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Count = Annotated[int, Meta(ge=1, le=10_000_000)]


class FhirServerEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """
    An entry of the file.

    Attributes:
        url: Base of the server as the sidecar reaches it, not through the proxy.
        token_file: File with the bearer token that is sent; read again when it changes.
        certificate: Client certificate, with its ``key``.
        ca: Authorities of the server's certificate; the system's if left out.
        seconds: From a question to its answer; less than the proxy waits.
        at_once: Questions under way at once.
        keep_seconds: How long an answer is used again, at most a minute; 0 keeps none.
        keep_entries: How many are kept.
        keep_bytes: Of how much size together.
    """

    url: str
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    seconds: Annotated[float, Meta(gt=0, le=30)] = 0.15
    at_once: Annotated[int, Meta(ge=1, le=1024)] = 32
    keep_seconds: Annotated[float, Meta(ge=0, le=60)] = 5.0
    keep_entries: Count = 10_000
    keep_bytes: Annotated[int, Meta(ge=4096)] = 16 * 1024 * 1024


def read_servers(file: Path | None) -> dict[str, FhirServerEntry]:
    """
    Read the file of FHIR servers, by base; none is no servers.

    Raises:
        SettingsError: it cannot be read or used; the message names the entry and what to do, and no value.
    """
    if file is None:
        return {}
    try:
        text = file.read_text(encoding="utf-8")
        found = msgspec.convert(tomllib.loads(text), dict[str, FhirServerEntry], dec_hook=_path)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"an entry is not as expected: {str(error)[:1].lower()}{str(error)[1:]}") from error
    if not found:
        raise SettingsError("holds no entry: describe a server, or leave the setting out")
    for base, entry in found.items():
        wrong = _wrong(entry)
        if wrong:
            raise SettingsError(f'["{base}"] {wrong}')
    return found


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


def _wrong(entry: FhirServerEntry) -> str:
    try:
        parts = urlsplit(entry.url)
        local = parts.hostname in _LOOPBACK
    except ValueError:
        return "`url` is no URL"
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        return "`url` is no URL of a server: expected `https://host/base`"
    if parts.scheme == "http" and not local:
        return "`url` is not `https://…`: what is sent and read there is nobody else's to see"
    if parts.query or parts.fragment or "?" in entry.url or entry.url.endswith("/") or not entry.url.isprintable():
        return "`url` is a base: no query, no fragment, no `/` at its end"
    if (entry.certificate is None) != (entry.key is None):
        return "`certificate` and `key` go together"
    if entry.token_file is None and entry.certificate is None:
        return "it would be asked by nobody: give `token_file`, or `certificate` and `key`"
    for name in ("token_file", "certificate", "key", "ca"):
        file = getattr(entry, name)
        if file is not None and not file.is_file():
            return f"`{name}`: there is no such file"
    return ""


class HttpFhirServer:
    """
    A server over HTTP.

    Raises:
        SettingsError: a certificate, key or token cannot be used.
    """

    def __init__(self, entry: FhirServerEntry) -> None:
        self._entry = entry
        self._token: tuple[tuple[int, int], str] | None = None
        try:
            context = ssl.create_default_context(cafile=entry.ca)
            if entry.certificate is not None:
                context.load_cert_chain(entry.certificate, entry.key)
            self._authorization()
        except (OSError, ssl.SSLError, StoreUnavailableError) as error:
            raise SettingsError("certificate, key, ca or token_file cannot be used") from error
        self._client = httpx.AsyncClient(
            verify=context, follow_redirects=False, trust_env=False, timeout=entry.seconds,
            limits=httpx.Limits(max_connections=entry.at_once, max_keepalive_connections=entry.at_once),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )  # fmt: skip

    async def fetch_record(self, kind: str, name: str, version: str, elements: tuple[str, ...]) -> bytes | None:
        """
        Return the record in bytes, None where the server says that it has none.

        Raises:
            StoreUnavailableError: it answered otherwise, too long, not as JSON, or not at all.
        """
        if not all(is_id(part) and part.strip(".") for part in (name, version or "1")):
            return None
        place = f"{self._entry.url}/{kind}/{name}" + (f"/_history/{version}" if version else "")
        try:
            async with self._client.stream(
                "GET", f"{place}?{urlencode({'_elements': ','.join(elements)})}", headers=self._headers()
            ) as answer:
                return await self._read(answer)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as error:
            raise StoreUnavailableError(f"no answer from the FHIR server: {type(error).__name__}") from None

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _read(self, answer: httpx.Response) -> bytes | None:
        if answer.status_code in _NOT_THERE:
            return None
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status_code != 200 or kind not in _JSON or "content-encoding" in answer.headers:
            raise StoreUnavailableError(f"the FHIR server answered {answer.status_code}, or no plain JSON")
        content = bytearray()
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > MAX_RECORD_BYTES:
                raise StoreUnavailableError("the FHIR server's answer is too long")
        return bytes(content)

    def _headers(self) -> dict[str, str]:
        plain = {
            "accept": "application/fhir+json", "accept-encoding": "identity", "cache-control": "no-cache",
            "user-agent": "ruqsat",
        }  # fmt: skip
        authorization = self._authorization()
        return plain if authorization is None else plain | {"authorization": authorization}

    def _authorization(self) -> str | None:
        """Return the header, from the file as it is now; tokens are exchanged while we run."""
        file = self._entry.token_file
        if file is None:
            return None
        state = file.stat()
        stamp = (state.st_mtime_ns, state.st_ino)
        if self._token is None or self._token[0] != stamp:
            token = file.read_bytes()[: MAX_TOKEN_BYTES + 1].strip()
            if not 0 < len(token) <= MAX_TOKEN_BYTES or not token.isascii() or not token.decode().isprintable():
                raise StoreUnavailableError("the token of the FHIR server cannot be used")
            self._token = (stamp, f"Bearer {token.decode()}")
        return self._token[1]
