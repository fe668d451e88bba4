"""
How long does a large policy take to compile, and how much memory does it keep?

100,000 generated rules beside the shipped pack's.  Reading and checking the texts is
timed apart from compiling them.  Owed: 5 s to compile, 1 KB kept for each rule.
"""

import gc
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable

from bench.micro.worlds import pack_of

from ruqsat.core import pack
from ruqsat.core.policy_set import PolicySet

ROWS = 100_000
SECONDS_OWED, BYTES_OWED = 5.0, 1024


def timed_load(texts: dict[str, bytes]) -> tuple[PolicySet, float, float]:
    """Return the set, the seconds of the whole load, and those of compiling alone."""
    spent = []
    compile_alone: Callable[..., PolicySet] = pack.compile_policy_set

    def timing(*args: object) -> PolicySet:
        gc.collect()
        began = time.perf_counter()
        made = compile_alone(*args)
        spent.append(time.perf_counter() - began)
        return made

    pack.compile_policy_set = timing  # type: ignore[assignment]
    try:
        began = time.perf_counter()
        policy_set, findings = pack.load_pack(texts)
        whole = time.perf_counter() - began
    finally:
        pack.compile_policy_set = compile_alone
    assert policy_set is not None, findings[:3]
    return policy_set, whole, spent[0]


def kept_bytes(texts: dict[str, bytes]) -> int:
    """Return what a loaded set keeps in memory, once the texts are gone."""
    gc.collect()
    tracemalloc.start()
    policy_set, _ = pack.load_pack(texts)
    texts.clear()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert policy_set is not None
    return kept


def main() -> int:
    """Measure, print, and return 1 if a figure is missed."""
    print(f"{platform.machine()}, Python {platform.python_version()}; {ROWS} rules, one run each")
    missed = False
    for shape in ("roles", "organisations"):
        _, whole, alone = timed_load(pack_of(ROWS, shape))
        bytes_a_rule = (kept_bytes(pack_of(ROWS, shape)) - kept_bytes(pack_of(0, shape))) / ROWS
        missed = missed or alone > SECONDS_OWED or bytes_a_rule > BYTES_OWED
        print(f"{shape:<14} compile {alone:5.2f} s (owed {SECONDS_OWED:g}), reading, checking {whole - alone:5.2f} s, "
              f"{bytes_a_rule:5.0f} bytes kept a rule (owed {BYTES_OWED})")  # fmt: skip
    print("MISSED" if missed else "kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
