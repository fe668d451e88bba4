"""The examination in a child process, with a deadline."""

import asyncio
import os
import sys
from collections.abc import Mapping

import msgspec

from ruqsat.core.policy_release import encode_texts
from ruqsat.core.verdict import Verdict

GRACE_SECONDS = 110.0
"""How long reading, checking and the cases may take beside the comparison: large packs need it."""


async def examine_in_child(texts: Mapping[str, bytes], seconds: float, seed: int) -> Verdict:
    """
    Examine *texts* in a process of its own.

    Args:
        seconds: The budget of the comparison with stock pycasbin.
        seed: Of its sample.

    Returns:
        The verdict; one with a ``failure`` if the child could not be started, died or took too long.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ruqsat.casbin.examiner", f"{seconds:g}", str(seed),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
        )  # fmt: skip
    except OSError as error:
        return Verdict(failure=f"the examination could not be started: {error.strerror}", seed=seed)
    try:
        said, _ = await asyncio.wait_for(child.communicate(encode_texts(texts)), seconds + GRACE_SECONDS)
    except TimeoutError:
        return Verdict(failure=f"the examination took longer than {seconds + GRACE_SECONDS:g} s", seed=seed)
    except RuntimeError:
        said = b""  # uvloop, of a child that was gone before it was given anything: how it ended is told below
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        return Verdict(failure=f"the examination died (exit status {child.returncode})", seed=seed)
    try:
        return msgspec.json.decode(said, type=Verdict)
    except msgspec.MsgspecError:
        return Verdict(failure="the examination said nothing that can be read", seed=seed)


def _environment() -> dict[str, str]:
    """Let the child import what we import, and know nothing else: no setting, no secret."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONHASHSEED": "0"}
