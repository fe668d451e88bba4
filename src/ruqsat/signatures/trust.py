"""What is trusted: the roots, the certificates that help to reach them, and the lists of revoked ones."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from msgspec import Struct

from ruqsat.errors import SettingsError

_log = logging.getLogger(__name__)

_SUFFIXES = (".pem", ".crt", ".cer", ".der")
_LIST_SUFFIXES = (".crl", ".pem", ".der")
_MAX_FILE = 64 * 1024 * 1024
_PEM_MARK = b"-----BEGIN "


class Trust(Struct, frozen=True):
    """Roots, and other certificates on the way to them; nothing is trusted that is not here."""

    roots: tuple[x509.Certificate, ...] = ()
    intermediates: tuple[x509.Certificate, ...] = ()


def load_trust(place: Path) -> Trust:
    """
    Read a PEM file, or a folder of PEM and DER files: those issued by themselves are roots, the others lead to them.

    Raises:
        SettingsError: it cannot be read, holds what is no certificate of a certification authority, or no root.
    """
    certificates = [each for file in _files(place, _SUFFIXES) for each in _certificates(file)]
    for each in certificates:
        if not _is_authority(each):
            raise SettingsError("a certificate in it is of no certification authority (basicConstraints)")
    roots = tuple(each for each in certificates if each.subject == each.issuer)
    if not roots:
        raise SettingsError("there is no root in it: expected a certificate that is issued by itself")
    return Trust(roots, tuple(each for each in certificates if each.subject != each.issuer))


def _files(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if place.is_dir():
        return sorted(file for file in place.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    if not place.is_file():
        raise SettingsError("there is no such file or folder")
    return [place]


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MAX_FILE:
            raise SettingsError(f"`{file.name}` is larger than {_MAX_FILE} bytes")
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"`{file.name}` cannot be read: {error.strerror}") from error


def _certificates(file: Path) -> list[x509.Certificate]:
    content = _read(file)
    try:
        if _PEM_MARK in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError:
        raise SettingsError(f"`{file.name}` holds no certificates in PEM or DER") from None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False


class RevocationLists:
    """The lists in a folder, read again whenever a file there changes."""

    def __init__(self, folder: Path) -> None:
        """
        Read them for the first time.

        Raises:
            SettingsError: there is no such folder, or a file in it is no list.
        """
        if not folder.is_dir():
            raise SettingsError("there is no such folder")
        self._folder = folder
        self._seen = self._state()
        self._lists = tuple(_list_in(file) for file in _files(folder, _LIST_SUFFIXES))

    def by(self, issuer: x509.Name) -> Iterator[x509.CertificateRevocationList]:
        """Return the lists that this issuer put its name on; nothing of them is verified."""
        self._refresh()
        return (each for each in self._lists if each.issuer == issuer)

    def _state(self) -> tuple[tuple[str, int, int], ...]:
        files = _files(self._folder, _LIST_SUFFIXES)
        return tuple((file.name, (found := file.stat()).st_mtime_ns, found.st_size) for file in files)

    def _refresh(self) -> None:
        try:
            state = self._state()
        except (OSError, SettingsError):
            self._lists, self._seen = (), ()
            return
        if state != self._seen:
            self._lists, self._seen = tuple(_readable(_files(self._folder, _LIST_SUFFIXES))), state


def _readable(files: Iterable[Path]) -> Iterator[x509.CertificateRevocationList]:
    for file in files:
        try:
            yield _list_in(file)
        except SettingsError as error:
            # Without it nothing by its issuer is accepted: that is found out soon, and safe.
            _log.warning("revocation_list_unreadable reason=%s", error)


def _list_in(file: Path) -> x509.CertificateRevocationList:
    content = _read(file)
    try:
        if _PEM_MARK in content:
            return x509.load_pem_x509_crl(content)
        return x509.load_der_x509_crl(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"`{file.name}` is no list of revoked certificates in PEM or DER") from None
