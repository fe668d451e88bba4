"""
A policy pack on disk → its files as bytes.  Reading only; core.pack judges them.

A folder may change while it is read: a checkout is half done, or a ConfigMap's link
is swapped.  So what is read counts only if the folder's state was the same before
and after, and while a checkout holds git's lock nothing is read at all.
"""

from pathlib import Path

from ruqsat.errors import PolicyError

MAX_FILE_BYTES = 64 * 1024 * 1024
_ATTEMPTS = 3

State = tuple[tuple[str, str, int, int, int], ...]
"""Of each file: its name, where its links lead, inode, size and time of change."""


class FolderBusyError(PolicyError):
    """The folder is being changed at this moment; ask again."""


def find_pack(folder: Path | None) -> Path:
    """Return the folder of the pack in use: the one given, else the checkout's root, else the copy in the wheel."""
    if folder is not None:
        return folder
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1]
    return checkout if (checkout / "model.conf").is_file() else package / "pack"


def load_texts(folder: Path) -> dict[str, bytes]:
    """
    Read the files of a pack, by path relative to *folder*.

    Raises:
        PolicyError: the folder holds no pack, or a file cannot be read.
        FolderBusyError: it goes on changing while it is read.
    """
    for _ in range(_ATTEMPTS):
        before = state_of(folder)
        # By where the links led: one that turns there and back between two looks cannot mix two packs.
        texts = {name: _read(Path(where)) for name, where, *_ in before}
        if state_of(folder) == before:
            return texts
    raise FolderBusyError(f"`{folder}` changes while it is read")


def state_of(folder: Path) -> State:
    """
    Return what tells one state of a pack's files from another, without reading them.

    Raises:
        PolicyError: the folder holds no pack.
        FolderBusyError: a checkout is under way.
    """
    try:
        if not (folder / "model.conf").is_file():
            raise PolicyError(f"`{folder}` holds no policy pack: expected `model.conf` and `policies/` in it")
        if (folder / ".git" / "index.lock").exists():
            raise FolderBusyError(f"`{folder}` is being checked out: git holds its lock")
        return tuple(_state_of_file(folder, path) for path in _files(folder))
    except FileNotFoundError as error:
        raise FolderBusyError(f"`{folder}` changes while it is read") from error
    except OSError as error:
        raise PolicyError(f"`{folder}` cannot be read: {error.strerror}") from error


def _files(folder: Path) -> list[Path]:
    policies = folder / "policies"
    names = (path for path in policies.glob("*") if _is_part(path.name))
    return sorted([folder / "model.conf", *names, *policies.glob("fixtures/*.toml")])


def _is_part(name: str) -> bool:
    """Tell rules and tables; `.CSV` and `.csv.txt` are read, too, and refused: they would be lost in silence."""
    is_lock = name.startswith(("~$", "._"))  # of a spreadsheet that has the file open; of a disk of another system
    return not is_lock and name.lower().removesuffix(".txt").endswith((".csv", ".toml"))


def _state_of_file(folder: Path, path: Path) -> tuple[str, str, int, int, int]:
    stat = path.stat()
    where = str(path.resolve())
    return path.relative_to(folder).as_posix(), where, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PolicyError(f"`{path}` is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"`{path}` cannot be read: {error.strerror}") from error
