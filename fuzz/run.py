"""
Fuzz one target for some seconds: with coverage where atheris is installed, else by mutating the seeds blindly.

    PYTHONPATH=.:src python fuzz/run.py canonicaliser --seconds 60

Exits with something else than 0 at a finding, and shows the bytes.
"""

import argparse
import importlib.util
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

WORDS = (
    b"/", b"//", b"..", b"%2e", b"%2f", b"%00", b"%", b";", b"\\", b"?", b"&", b"=", b"#", b"\x00", b"\n", b"\xff", b"{", b"}", b"[",
    b"]", b'"', b",", b":", b"null", b"true", b"1e999", b"NaN", b"\\u0000", b"\\ud800", b".", b"Bearer ", b"id", b"subject", b"-1", b"9" * 20,
)  # fmt: skip


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """Return a seed with a few changes: bytes flipped, cut, repeated, words put in, two seeds joined."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(data))
        match chance.randrange(5):
            case 0 if data:
                data[min(place, len(data) - 1)] = chance.randrange(256)
            case 1:
                data[place:place] = chance.choice(WORDS)
            case 2:
                del data[place : place + chance.randint(1, 8)]
            case 3:
                data[place:place] = data[place : place + chance.randint(1, 16)]
            case _:
                data[place:] = chance.choice(seeds)[place:]
    return bytes(data)


def fuzz_plainly(name: str, seconds: float, seed: int) -> int:
    """Mutate blindly; return how many inputs were tried.  Raises what the target raises, with the input as a note."""
    from fuzz.targets import SEEDS, TARGETS  # noqa: PLC0415 - after atheris has had its chance to see the import

    chance, tried, give_up = random.Random(seed), 0, time.monotonic() + seconds
    for data in SEEDS[name]:
        _try(TARGETS[name], data)
    while time.monotonic() < give_up:
        for _ in range(100):
            _try(TARGETS[name], mutated(SEEDS[name], chance))
        tried += 100
    return tried


def _try(target, data: bytes) -> None:
    try:
        target(data)
    except BaseException as error:
        error.add_note(f"input: {data!r}")
        raise


def fuzz_with_coverage(name: str, seconds: float, seed: int) -> None:
    """Let atheris look for inputs that reach what no other has; ends the process."""
    import atheris  # noqa: PLC0415 - installed on some platforms only

    with atheris.instrument_imports(include=["ruqsat"]):
        from fuzz.targets import SEEDS, TARGETS  # noqa: PLC0415
    with tempfile.TemporaryDirectory(prefix="ruqsat-fuzz-") as folder:
        for number, data in enumerate(SEEDS[name]):
            Path(folder, f"seed-{number}").write_bytes(data)
        words = [
            "-verbosity=0",
            "-print_final_stats=1",
            f"-artifact_prefix={folder}/",
            "-rss_limit_mb=2048",
            "-max_len=4096",
        ]
        atheris.Setup([name, *words, f"-max_total_time={seconds:.0f}", f"-seed={seed % 2**31}", folder], TARGETS[name])
        atheris.Fuzz()


def main() -> int:
    """Fuzz what the command line names."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("target")
    given.add_argument("--seconds", type=float, default=60)
    given.add_argument("--seed", type=int, default=random.randrange(2**31))
    given.add_argument("--plain", action="store_true", help="without coverage, even where atheris is installed")
    asked = given.parse_args()
    print(f"{asked.target}: seed {asked.seed}", flush=True)
    if not asked.plain and importlib.util.find_spec("atheris") is not None:
        fuzz_with_coverage(asked.target, asked.seconds, asked.seed)
        return 0
    print("without coverage: atheris is not installed here, or was not asked for", flush=True)
    try:
        print(f"{fuzz_plainly(asked.target, asked.seconds, asked.seed)} inputs, nothing found")
    except BaseException:  # noqa: BLE001 - whatever a target raises is a finding
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
