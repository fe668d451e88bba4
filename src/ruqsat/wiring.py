"""The only module that knows every concrete class: it builds the process."""

from pathlib import Path


def find_pack(folder: Path | None) -> Path:
    """Return the folder of the pack in use: the one given, else the checkout's root, else the copy in the wheel."""
    if folder is not None:
        return folder
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    return checkout if (checkout / "model.conf").is_file() else package / "pack"
