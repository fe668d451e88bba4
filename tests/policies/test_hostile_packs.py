"""
Two hundred and more broken policy sets: each is refused with a reason, or decides as before.

Truncated, with flipped bits, with the known traps, with bombs and cycles, with binary noise.
Seeded; the seed is printed, and a failure names the variant.
"""

import os
import random
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest

from ruqsat.core.admission import build_pack, try_cases
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations

SEED = int(os.environ.get("RUQSAT_TEST_SEED", "20261124"))
LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
TRUNCATIONS, FLIPS, NOISE = (25, 35, 10) if LONGER == 1 else (110 * LONGER, 150 * LONGER, 25 * LONGER)
TIMES_AS_MUCH, TIMES_AS_LARGE = 40, 40
"""How much more work and memory a broken pack may take than the good one: generous, and yet no bomb gets through."""

RULE = "p, 1300, consent-90, care_staff, read, labs, TREAT, {}, allow, consent, notify_subject, R3\n"
DEEP = "(" * 400 + "r.ctx.relink" + ")" * 400
BOMBS = {
    "deep": RULE.format(DEEP),
    "not-not": RULE.format("!" * 3000 + "r.ctx.relink"),
    "power": RULE.format("9**9**9**9 == 1"),
    "wide": RULE.format(" && ".join(["r.ctx.relink"] * 5000)),
    "long-name": RULE.format("r.ctx." + "a" * 100_000),
    "long-cell": RULE.format("r.ctx.relink").replace("care_staff", "nurse " * 50_000),
    "huge-number": RULE.format("1" * 10_000 + " == 1"),
    "dunder": RULE.format("r.sub.__class__ == 1"),
    "call": RULE.format("__import__('os')"),
    "lambda": RULE.format("(lambda: True)()"),
    "comprehension": RULE.format("[x for x in r.sub.roles]"),
    "format": RULE.format("'{}'.format(r.sub)"),
    "string-operator": RULE.format("r.sub.id == 'a && b'"),
    "string-prefix": RULE.format("r.sub.id == 'r.sub.id'"),
    "injected": RULE.format(") or (True"),
    "injected-comment": RULE.format("True) #"),
    "backslash": RULE.format("r.sub.id == 'a\\'"),
    "nul": RULE.format("r.sub.id == 'a\x00b'"),
    "control": RULE.format("r.ctx.relink\x0c"),
    "unknown-kind": RULE.format("r.ctx.relink").replace("p,", "pp,", 1),
    "short-row": "p, 1300, consent-90, care_staff\n",
    "long-row": RULE.format("r.ctx.relink").strip() + ", more, and more\n",
    "misspelt-effect": RULE.format("r.ctx.relink").replace("allow", "Allow"),
    "trailing-comment": RULE.format("r.ctx.relink").strip() + " # why\n",
    "quoted": RULE.format("r.ctx.relink").replace("care_staff", '"care_staff"'),
    "mixed-effect": RULE.format("r.ctx.relink").replace("allow, consent", "deny, consent.none"),
    "double-id": RULE.format("r.ctx.relink").replace("consent-90", "consent-01"),
    "unknown-law": RULE.format("r.ctx.relink").replace("R3", "R99"),
    "facts-in-file": "p2, doc, permit, -, -, TREAT, *, read, labs, -, -, -, -, -, -, allow\n",
}
LINKS = {
    "cycle": "g2, labs, clinical\ng2, clinical, labs\n",
    "self": "g, nurse, nurse\n",
    "long-chain": "".join(f"g, c{n}, c{n + 1}\n" for n in range(3000)),
    "unknown": "g, nobody, nurse\n",
}


def broken(texts: dict[str, bytes], seed: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield broken packs with a name each."""
    chance = random.Random(seed)
    names = sorted(name for name in texts if not name.endswith(".test.toml"))
    for number in range(TRUNCATIONS):
        name = chance.choice(names)
        place = chance.randrange(len(texts[name]))
        yield f"truncated-{number}:{name}:{place}", texts | {name: texts[name][:place]}
    for number in range(FLIPS):
        name = chance.choice(names)
        place, bit = chance.randrange(len(texts[name])), 1 << chance.randrange(8)
        data = bytearray(texts[name])
        data[place] ^= bit
        yield f"flipped-{number}:{name}:{place}:{bit}", texts | {name: bytes(data)}
    for number in range(NOISE):
        name = chance.choice(names)
        yield f"noise-{number}:{name}", texts | {name: chance.randbytes(chance.randrange(1, 5000))}
    for name in names:
        yield f"missing:{name}", {kept: data for kept, data in texts.items() if kept != name}
        yield f"empty:{name}", texts | {name: b""}
        yield f"marked:{name}", texts | {name: b"\xef\xbb\xbf" + texts[name]}
    yield "swapped", texts | {"policies/consent.csv": texts["policies/public.csv"]}
    yield from made_to_hurt(texts)


def made_to_hurt(texts: dict[str, bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the packs that ask for work or memory without bound, or for what must not be said, with a name each."""
    for kind, row in BOMBS.items():
        yield kind, texts | {"policies/consent.csv": texts["policies/consent.csv"] + row.encode()}
    for kind, rows in LINKS.items():
        yield kind, texts | {"policies/hierarchies.csv": texts["policies/hierarchies.csv"] + rows.encode()}
    yield "many-rows", texts | {"policies/consent.csv": b"p, 1300\n" * 100_000}


def answers(policy_set: PolicySet) -> list[tuple[bool, str]]:
    """Decide a fixed sample."""
    everything = frozenset({"require_eds", "audit", "provenance", "redact"})
    decided = [evaluate(policy_set, *each, everything) for each in islice(situations(policy_set, 11), 150)]
    return [(decision.allowed, decision.reason) for decision in decided]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_broken_pack_is_refused_or_decides_as_promised(pack_texts: dict[str, bytes]) -> None:
    """
    Never an exception, never without an end: refused with a finding, or every case still holds.

    A change that breaks no case and no rule of the checker (in a comment, in a title) is let in;
    it must then decide the pack's own cases as promised.
    """
    print(f"seed {SEED}")
    good, _ = build_pack(pack_texts)
    assert good is not None
    before, refused, seen = answers(good.policy_set), 0, 0
    for name, texts in broken(pack_texts, SEED):
        pack, findings = build_pack(texts)
        seen += 1
        if pack is None:
            assert has_errors(findings), name
            refused += 1
            continue
        assert not name.startswith(tuple(BOMBS)), f"{name} was let in"
        if has_errors(try_cases(texts, pack.policy_set)[1]):
            refused += 1
    assert answers(good.policy_set) == before
    print(f"{refused} of {seen} refused")
    assert refused >= 0.67 * seen


def test_a_bomb_takes_no_more_work_than_a_pack(pack_texts: dict[str, bytes]) -> None:
    """Counted in calls of functions, which are the same on every machine, beside the good pack."""

    def work(texts: dict[str, bytes]) -> int:
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            build_pack(texts)
        finally:
            sys.setprofile(None)
        return calls

    usual = work(pack_texts)
    times = {name: work(texts) / usual for name, texts in made_to_hurt(pack_texts)}
    assert {name: many for name, many in times.items() if many > TIMES_AS_MUCH} == {}


@pytest.mark.parametrize("kind", ["deep", "wide", "long-cell", "power", "huge-number"])
def test_a_bomb_takes_no_more_memory_than_a_pack(pack_texts: dict[str, bytes], kind: str) -> None:
    """Measured beside the good pack: no cell makes the reader ask for memory without bound."""

    def peak(texts: dict[str, bytes]) -> int:
        tracemalloc.start()
        build_pack(texts)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    usual = peak(pack_texts)
    bomb = pack_texts["policies/consent.csv"] + BOMBS[kind].encode()
    assert peak(pack_texts | {"policies/consent.csv": bomb}) < usual * TIMES_AS_LARGE
