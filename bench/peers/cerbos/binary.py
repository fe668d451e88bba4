"""
Cerbos itself: one pinned version from npm, kept in a cache folder and never in the repository.

The folder is ``PEERS_CACHE``, else ``ruqsat-peers`` in the user's cache.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

VERSION = "0.55.0"
PACKAGE = f"@cerbos/cerbos-linux-x64@{VERSION}"
TARBALL = f"cerbos-cerbos-linux-x64-{VERSION}.tgz"
SHA256 = "dab3152a1530bec16b945473e9aea9af493fee123c477c4196a990fad58656d1"
MEMBER = "package/cerbos-linux-x64"


class NoCerbosError(Exception):
    """It cannot be had, and why."""


def cache_folder() -> Path:
    """Return where it is kept."""
    user = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("PEERS_CACHE") or Path(user, "ruqsat-peers"))


def find_cerbos() -> Path:
    """
    Return the program, fetched with npm if it is not there yet.

    Raises:
        NoCerbosError: no npm, no registry, or other bytes than the pinned ones.
    """
    folder = cache_folder()
    program = folder / VERSION / "cerbos"
    if program.is_file():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    tarball = folder / TARBALL
    if not tarball.is_file():
        _pack(folder)
    if hashlib.sha256(tarball.read_bytes()).hexdigest() != SHA256:
        raise NoCerbosError(f"{tarball} is not the pinned {PACKAGE}: its SHA-256 differs; delete it to fetch it anew")
    program.parent.mkdir(exist_ok=True)
    with tarfile.open(tarball) as archive, (found := program.with_suffix(".new")).open("wb") as out:
        member = archive.extractfile(MEMBER)
        if member is None:
            raise NoCerbosError(f"{MEMBER} is not in {tarball}")
        shutil.copyfileobj(member, out)
    found.chmod(0o755)
    found.rename(program)
    return program


def _pack(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NoCerbosError("npm is not installed; it fetches the program")
    done = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoCerbosError(f"npm pack {PACKAGE} failed: {done.stderr.strip().splitlines()[-1:]}")
