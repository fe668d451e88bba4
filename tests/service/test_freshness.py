"""The one rule of freshness: nothing is used after a change to it was learnt, nor beyond the lease."""

from random import Random
from types import ModuleType

import pytest

from ruqsat.core.facts import Position
from ruqsat.errors import RequestError
from ruqsat.service import freshness as product
from tests.mutants import plant

KEY = bytes(32)
LEASE = 5_000_000
KEYS = ("patient:p1", "subject:s1", "patient:p2")


def fresh(module: ModuleType = product, **options: int) -> product.Freshness:
    """State after one probe of epoch `e`, at boot time 0."""
    state: product.Freshness = module.Freshness(KEY, lease_for=LEASE, **options)
    state.observe_probe(Position("e", 0), (), 0, state.ask())
    return state


def test_what_was_read_is_usable_until_a_change_to_it_is_learnt() -> None:
    """A change makes what was read before it unusable, and nothing else."""
    state = fresh()

    state.learn(1, "patient:p1")

    assert not state.usable(Position("e", 0), ("patient:p1",), 1)
    assert state.usable(Position("e", 1), ("patient:p1",), 1)
    assert state.usable(Position("e", 0), ("patient:p2",), 1)


def test_a_change_to_everything_touches_everything() -> None:
    """An entry `ALL` in the feed makes every earlier reading unusable."""
    state = fresh()

    state.learn(1, product.ALL)

    assert not state.usable(Position("e", 0), ("patient:p2",), 1)


def test_nothing_is_usable_once_the_lease_has_run_out() -> None:
    """The lease ends at its instant, to the microsecond, and only a probe renews it."""
    state = fresh()

    assert state.usable(Position("e", 0), KEYS, LEASE - 1)
    assert not state.usable(Position("e", 0), KEYS, LEASE)
    state.learn(1, "patient:p9")
    assert not state.usable(Position("e", 1), KEYS, LEASE)
    state.observe_probe(Position("e", 1), (), LEASE, state.ask())
    assert state.usable(Position("e", 1), KEYS, 2 * LEASE - 1)


def test_the_lease_runs_from_when_the_probe_was_sent() -> None:
    """An answer that was long on its way does not prolong anything."""
    state = fresh()

    state.observe_probe(Position("e", 0), (), 1_000_000, state.ask())

    assert not state.usable(Position("e", 0), KEYS, 1_000_000 + LEASE)


def test_another_epoch_forgets_everything() -> None:
    """A database that was exchanged makes every reading of the old one unusable."""
    state = fresh()

    assert state.observe_probe(Position("f", 3), (), 1, state.ask()) == "forgot"

    assert not state.usable(Position("e", 9), KEYS, 2)
    assert not state.usable(Position("f", 2), KEYS, 2)
    assert state.usable(Position("f", 3), KEYS, 2)


def test_a_head_that_went_back_forgets_everything_and_takes_another_probe() -> None:
    """A database that lost changes which we had seen is not believed at once."""
    state = fresh()
    state.observe_probe(Position("e", 5), [(n, "patient:p1") for n in range(1, 6)], 1, state.ask())

    assert state.observe_probe(Position("e", 2), (), 2, state.ask()) == "went-back"

    assert not state.usable(Position("e", 2), KEYS, 3)


def astray(module: ModuleType) -> bool:
    """
    Let late replies lead away from an epoch and back, while a probe is on its way; tell whether it was believed.

    It was asked after change 2, and we come back knowing change 1 alone.
    """
    state = fresh(module)
    state.observe_probe(Position("e", 2), [(1, "patient:p1"), (2, "patient:p2")], 1, state.ask())
    asked = state.ask()
    state.learn_commit(Position("d", 9), ("subject:s1",))
    state.learn_commit(Position("e", 1), ("patient:p1",))
    state.observe_probe(Position("e", 3), [(3, "subject:s1")], 2, asked)
    return state.usable(Position("e", 1), ("patient:p2",), 3)


def test_a_probe_asked_before_everything_was_forgotten_proves_nothing() -> None:
    """Not even if it was asked in the epoch that we are in again: what it left out may be unknown by now."""
    assert not astray(product)
    assert astray(plant(product, "if asked.era != self.era:", "if asked.since.epoch != self.epoch:"))


def test_changes_with_a_gap_forget_everything() -> None:
    """A probe that does not bring every change up to the head makes older readings unusable."""
    state = fresh()

    assert state.observe_probe(Position("e", 3), [(1, "patient:p1"), (3, "patient:p2")], 1, state.ask()) == "forgot"

    assert not state.usable(Position("e", 2), ("subject:s1",), 2)


def test_the_memory_of_changes_is_bounded_and_errs_on_the_safe_side() -> None:
    """When old changes are dropped, everything older than they are becomes unusable."""
    state = fresh(recent_limit=2)
    for seq, key in enumerate(KEYS, 1):
        state.learn(seq, key)

    assert len(state.recent) == 2
    assert not state.usable(Position("e", 0), KEYS[:1], 1)
    assert not state.usable(Position("e", 0), ("patient:never",), 1)


def test_a_token_asks_for_at_least_its_position() -> None:
    """Facts older than the token are unusable unless everything up to it is known."""
    state = fresh()
    token = Position("e", 2)

    assert not state.usable(Position("e", 0), ("patient:p2",), 1, token)
    state.learn(1, "patient:p1")
    state.learn(2, "patient:p1")
    assert state.usable(Position("e", 0), ("patient:p2",), 1, token)
    assert not state.usable(Position("e", 9), KEYS, 1, Position("f", 1))


def test_tokens_are_sealed() -> None:
    """A token reads as what was issued; a changed, cut or foreign one is refused."""
    state, other = fresh(), product.Freshness(bytes(31) + b"x", lease_for=LEASE)
    token = state.issue_token(Position("ab12", 7))

    assert state.read_token(token) == Position("ab12", 7)
    for forged in (
        token.replace(".7.", ".8."),
        token[:-1],
        token + "0",
        "",
        "ab12.7",
        other.issue_token(Position("ab12", 7)),
    ):
        with pytest.raises(RequestError):
            state.read_token(forged)


def random_walk(module: ModuleType, seed: int, steps: int) -> bool:
    """Commit, learn late and out of order, probe and read at random; tell whether anything stale was usable."""
    chance = Random(seed)
    state = fresh(module, recent_limit=2)
    touched: dict[str, int] = dict.fromkeys(KEYS, 0)
    committed_at: list[tuple[int, int]] = []
    feed: list[tuple[int, str]] = []
    held: list[tuple[str, Position]] = []
    now = 0
    for _ in range(steps):
        now += chance.choice([1, 100_000, 1_000_000])
        match chance.randrange(5):
            case 0:
                key = chance.choice(KEYS)
                feed.append((len(feed) + 1, key))
                touched[key] = len(feed)
                committed_at.append((now, len(feed)))
            case 1 if feed:
                state.learn(*chance.choice(feed))
            case 2:
                asked, sent = state.ask(), now
                changes, head = [c for c in feed if c[0] > asked.since.seq], Position("e", len(feed))
                now += chance.choice([0, 2_000_000])
                state.observe_probe(head, changes, sent, asked)
            case 3:
                held.append((chance.choice(KEYS), Position("e", len(feed))))
            case _:
                for key, as_of in held[-6:]:
                    old = [
                        seq
                        for moment, seq in committed_at
                        if moment <= now - LEASE and feed[seq - 1][1] == key and seq > as_of.seq
                    ]
                    if old and state.usable(as_of, (key,), now):
                        return True
    return False


def test_nothing_stale_is_usable_a_lease_after_its_change() -> None:
    """On thousands of random histories no reading is usable a lease after a change to it, however late we learn."""
    seed = Random().randrange(2**32)
    print(f"seed {seed}")

    assert not any(random_walk(product, seed + n, 300) for n in range(150))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("self.lease = max(self.lease, sent_at)", "self.lease = sent_at + 4_000_000"),
        ("self.win = max(self.win, dropped)", "pass"),
        ("if recent.get(key, 0) > seq:", "if recent.get(key, 0) > seq + 1:"),
        ("return now_boottime - self.lease < self._lease_for\n\n    def _covers", "return True\n\n    def _covers"),
    ],
    ids=["lease from receipt", "window dropped", "off by one", "no lease"],
)
def test_planted_mistakes_are_noticed(right: str, wrong: str) -> None:
    """Each guard of the rule is needed: without it the same histories find something stale."""
    mutant = plant(product, right, wrong)

    assert any(random_walk(mutant, n, 300) for n in range(3000))


def test_the_newest_change_known_is_never_before_one_of_our_own() -> None:
    """A change of somebody else that we have not heard of lies before ours: our position waits for it, our token does not."""
    state = product.Freshness(KEY)
    state.observe_probe(Position("e", 4), (), 0, state.ask())
    state.learn_commit(Position("e", 6), ("patient:p",))

    assert state.position == Position("e", 4)
    assert state.newest == Position("e", 6)
    assert state.early == 1
    state.learn_commit(Position("f", 2), ("patient:p",))
    assert state.newest == state.position == Position("f", 2)


def test_a_token_is_never_of_before_a_change_of_our_own() -> None:
    """Not even while somebody else's change before it is unknown here, so that our position has not reached it."""
    state = fresh()
    state.learn_commit(Position("e", 3), ("patient:p1",))

    assert state.position == Position("e", 0)
    assert state.read_token(state.issue_token(state.position)) == Position("e", 3)
    assert state.read_token(state.issue_token(Position("e", 9))) == Position("e", 9)
    assert state.read_token(state.issue_token(Position("d", 1))) == Position("d", 1)


def test_what_a_repeated_call_has_found_is_not_answered_from_before_it() -> None:
    """A change of an unknown process was found made: older readings wait for a probe, and the token covers it."""
    state = fresh()
    state.learn_reading(Position("e", 2), "patient:p1", 1)

    assert not state.usable(Position("e", 1), ("patient:p1",), 1)
    assert state.usable(Position("e", 2), ("patient:p1",), 1) and state.usable(Position("e", 1), ("patient:p2",), 1)
    assert state.position == Position("e", 0)
    assert state.read_token(state.issue_token(state.position)) == Position("e", 2)
    state.learn_reading(Position("d", 9), "patient:p2", 1)
    assert state.usable(Position("e", 1), ("patient:p2",), 1)


def test_a_hint_that_comes_late_takes_nothing_back() -> None:
    """Of an older change of the same thing nobody learns that the newer one is known, or said, to be there."""
    for tell in (product.Freshness.learn_reading, lambda state, at, key, now: state.hint(at.seq, key, now)):
        state = fresh()
        tell(state, Position("e", 2), "patient:p1", 1)
        state.hint(1, "patient:p1", 2)

        assert not state.usable(Position("e", 1), ("patient:p1",), 2)
        assert state.usable(Position("e", 2), ("patient:p1",), 2)


def test_a_token_is_never_of_before_what_was_read() -> None:
    """An answer may come from a reading that is ahead of what is known; of another history it proves nothing."""
    state = fresh()
    state.saw(Position("e", 7))

    assert (state.position, state.newest) == (Position("e", 0), Position("e", 7))
    assert state.read_token(state.issue_token(state.position)) == Position("e", 7)
    state.saw(Position("d", 99))
    assert state.newest == Position("e", 7)


def test_forgetting_does_not_forget_how_new_a_change_of_our_own_is() -> None:
    """It came while a probe that lost count was under way: tokens and barriers stay with it.  Planted: they fall back."""

    def newest(module: ModuleType) -> Position:
        state = fresh(module)
        asked = state.ask()
        state.learn_commit(Position("e", 1500), ("patient:p1",))
        assert state.observe_probe(Position("e", 1499), (), 1, asked) == "forgot"
        position: Position = state.newest
        assert position == state.read_token(state.issue_token(state.position))
        return position

    assert newest(product) == Position("e", 1500)
    wrong = plant(product, "self.win = self._newest = max(self.win, overtaken)", "self.win = max(self.win, overtaken)")
    assert newest(wrong) == Position("e", 1499)


def following() -> product.Freshness:
    """State after one probe of epoch `e`, at boot time 0, of a process whose policy is what the database says."""
    state = product.Freshness(KEY, lease_for=LEASE, follows_policy=True)
    state.observe_probe(Position("e", 3), (), 0, state.ask())
    state.reflect_policy(Position("e", 3))
    return state


@pytest.mark.parametrize("key", [product.POLICY, product.ALL])
def test_no_lease_is_renewed_under_a_policy_from_before_a_change_that_is_known(key: str) -> None:
    """Be it of the policy or of everything; once the pointer was read since, the lease is that of the probe."""
    state = following()
    state.observe_probe(Position("e", 4), ((4, key),), 10, state.ask())
    assert not state.reflects_policy() and state.lease == 0

    state.reflect_policy(Position("e", 3))
    assert state.lease == 0
    state.reflect_policy(Position("e", 4))
    assert state.lease == 10


@pytest.mark.parametrize("late", [Position("d", 99), Position("e", 3)], ids=["another history", "forgotten"])
def test_a_pointer_that_was_read_before_everything_was_forgotten_gives_no_lease(late: Position) -> None:
    """Its reading was under way meanwhile; nor does one that was read in another history, however far that reached."""
    state = following()
    assert state.observe_probe(Position("e", 9), (), 10, state.ask()) == "forgot"

    state.reflect_policy(late)
    assert not state.reflects_policy() and state.lease == 0
    state.reflect_policy(Position("e", 9))
    assert state.reflects_policy() and state.lease == 10


def test_a_lease_that_was_withheld_is_not_given_after_everything_was_forgotten() -> None:
    """A history that went back, or was exchanged, takes another probe to be fresh, whatever the policy is."""
    for happens in (
        lambda state: state.observe_probe(Position("e", 1), (), 20, state.ask()),
        lambda state: state.learn_commit(Position("f", 1), ("patient:p1",)),
    ):
        state = following()
        state.observe_probe(Position("e", 4), ((4, product.POLICY),), 10, state.ask())
        happens(state)
        state.reflect_policy(state.position)

        assert state.reflects_policy() and not state.has_lease(20)


@pytest.mark.parametrize("key", [product.POLICY, product.ALL])
def test_nothing_outlasts_the_lease_under_a_policy_that_is_said_to_have_changed(key: str) -> None:
    """Whoever follows the policy goes on without the store only while nobody has spoken of another."""
    state = product.Freshness(KEY, lease_for=LEASE, follows_policy=True)
    state.observe_probe(Position("e", 0), (), 0, state.ask())
    state.reflect_policy(Position("e", 0))
    assert state.may_outlast_lease()

    state.hint(1, key, 1)
    assert state.reflects_policy() and not state.may_outlast_lease()
    state.reflect_policy(Position("", -1))
    assert not state.reflects_policy()
    alone = fresh()
    alone.hint(1, key, 1)
    assert alone.may_outlast_lease(), "it has its policy from elsewhere"
