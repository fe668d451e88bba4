"""The machine that is measured, what runs on it, and which commit: above every figure."""

import datetime
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Return what figures of this moment are of."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "unknown")
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "cpu": model,
        "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "commit": commit.stdout.strip(), "load_before": round(os.getloadavg()[0], 2),
        "file_system": file_system(Path(tempfile.gettempdir())),
    }  # fmt: skip


def file_system(folder: Path) -> str:
    """Return what kind of file system holds a folder: what is synced to a `tmpfs` lasts no longer than unsynced."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return max((len(where), kind) for where, kind in mounts if folder.resolve().is_relative_to(where))[1]
