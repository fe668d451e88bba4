"""A policy pack on disk: ``model.conf`` and ``policies/`` under one folder."""

from pathlib import Path

from ruqsat.errors import PolicyError

MAX_FILE_BYTES = 8 * 1024 * 1024


def load_texts(folder: Path) -> dict[str, bytes]:
    """
    Read the files of a pack, by path relative to *folder*.

    Raises:
        PolicyError: the folder holds no pack, or a file cannot be read.
    """
    if not (folder / "model.conf").is_file():
        raise PolicyError(f"`{folder}` holds no policy pack: expected `model.conf` and `policies/` in it")
    policies = folder / "policies"
    names = [
        folder / "model.conf",
        *policies.glob("*.csv"),
        *policies.glob("*.toml"),
        *policies.glob("fixtures/*.toml"),
    ]
    try:
        return {path.relative_to(folder).as_posix(): _read(path) for path in sorted(names)}
    except OSError as error:
        raise PolicyError(f"`{folder}` cannot be read: {error.strerror}") from error


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise PolicyError(f"`{path}` is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    return path.read_bytes()
