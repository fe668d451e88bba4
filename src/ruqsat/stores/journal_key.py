"""The key that signs checkpoints: an Ed25519 private key in a PEM file, and the journal's name."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ruqsat.core.signed_note import SigningKey, VerifierKey
from ruqsat.errors import SettingsError


def load_signing_key(path: Path, name: str) -> SigningKey:
    """
    Read the key of the journal called *name*.

    Raises:
        SettingsError: there is none; nothing of what was found is repeated.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as problem:
        raise SettingsError(f"`{path}` cannot be read: {problem.strerror}") from problem
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"`{path}` is no Ed25519 private key in PEM; `ruqsat journal key` makes one")
    try:
        return SigningKey(name, key)
    except ValueError as problem:
        raise SettingsError(f"the name of the journal: {problem}") from None


def make_signing_key(path: Path, name: str) -> SigningKey:
    """
    Write a new key to *path*, which must not exist, for its owner only.

    Raises:
        SettingsError: it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    made = SigningKey(name, key)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as problem:
        raise SettingsError(f"`{path}` cannot be written: {problem.strerror}") from problem
    return made


def read_verifier_key(text: str) -> VerifierKey:
    """
    Read a verifier key, given as its one word or as a file that holds it.

    Raises:
        SettingsError: it is none.
    """
    try:
        return VerifierKey.read(Path(text).read_text() if Path(text).is_file() else text)
    except (ValueError, OSError) as problem:
        raise SettingsError(f"the verifier key cannot be used: {problem}") from None
