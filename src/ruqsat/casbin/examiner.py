"""
The examination of a pack, in a process of its own: ``python -m ruqsat.casbin.examiner SECONDS SEED < pack``.

A pack is not trusted before it has been examined: compiling it or deciding by it may take
any amount of time and memory.  Here only this process suffers, whose memory is limited and
whose parent does not wait longer than a deadline; the one that serves goes on.
"""

import resource
import sys
import time
from collections.abc import Mapping

import msgspec

from ruqsat.casbin.comparison import compare
from ruqsat.core.admission import build_pack, try_cases
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.verdict import Verdict

MEMORY_BYTES = 4 << 30


def examine(texts: Mapping[str, bytes], seconds: float, seed: int) -> Verdict:
    """
    Check, compile, run the cases, and compare with stock pycasbin.

    Args:
        seconds: The budget of the comparison.
        seed: Of its sample.
    """
    pack, findings = build_pack(texts)
    if pack is None:
        return Verdict(findings=tuple(findings), seed=seed)
    cases, failed = try_cases(texts, pack.policy_set)
    if has_errors(failed):
        return Verdict(pack.policy_set.digest, (*findings, *failed), cases=cases, seed=seed)
    comparison = compare(texts, pack.policy_set, seed, seconds, time.monotonic)
    return Verdict(
        pack.policy_set.digest, tuple(findings), cases=cases, seed=seed,
        compared=comparison.compared, differences=comparison.differences,
    )  # fmt: skip


def main() -> None:
    """Read a pack from standard input, and write the verdict to standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    texts = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=dict[str, bytes])
    verdict = examine(texts, float(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.buffer.write(msgspec.json.encode(verdict))


if __name__ == "__main__":
    main()
