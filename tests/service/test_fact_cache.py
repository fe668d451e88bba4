"""Memory of facts: packed or open it is the same facts, read at the same position, and never older ones."""

import gc
import os
import random
import tracemalloc
from datetime import date
from itertools import islice

import msgspec
import pytest
from bench.population import patient

from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations
from ruqsat.service import fact_cache
from ruqsat.service.fact_cache import FactCache

SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(1_000_000))))


@pytest.fixture
def one_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was not used last is packed."""
    monkeypatch.setattr(fact_cache, "OPEN", 1)


def patients(max_entries: int = 1000, max_bytes: int = 2**30) -> FactCache[PatientFacts]:
    """Return an empty memory of patients."""
    return FactCache("patient", PatientFacts, max_entries, max_bytes)


def born(year: int) -> PatientFacts:
    """Return a patient by whom readings are told apart."""
    return PatientFacts("p1", birth_date=date(year, 1, 1))


@pytest.mark.usefixtures("one_open")
def test_what_was_packed_is_opened_as_it_was(policy_set: PolicySet) -> None:
    """Every kind of facts that a decision may need, and that there is nobody; the seed is printed."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    subjects, whom = FactCache("subject", SubjectFacts, 10_000, 2**30), patients(10_000)
    told = [facts for _, facts, _ in islice(situations(policy_set, SEED), 2000)]
    assert any(facts.patient is None for facts in told)

    for number, facts in enumerate(told):
        subjects.keep(str(number), facts.subject, Position("e", number))
        whom.keep(str(number), facts.patient, Position("f", number))

    for number, facts in enumerate(told):
        one, other = subjects.look(str(number)), whom.look(str(number))
        assert one is not None
        assert other is not None
        assert (one.value, one.as_of, one.key) == (facts.subject, Position("e", number), f"subject:{number}")
        assert (other.value, other.as_of, other.key) == (facts.patient, Position("f", number), f"patient:{number}")
        if facts.patient is not None:
            assert other.value is not None
            assert other.value.digest == facts.patient.digest


@pytest.mark.parametrize("packed", [False, True], ids=["open", "packed"])
@pytest.mark.usefixtures("one_open")
def test_a_later_reading_takes_the_place_of_an_earlier_one_and_never_the_other_way(packed: bool) -> None:
    """Whether the one before is open or packed; of another epoch, the last to come is kept."""
    cache = patients()

    def keep(year: int, as_of: Position) -> PatientFacts | None:
        cache.keep("p1", born(year), as_of)
        if packed:
            cache.keep("p2", None, Position("e", as_of.seq))
        entry = cache.look("p1")
        assert entry is not None
        if packed:
            cache.look("p2")
        return entry.value

    assert keep(1801, Position("e", 5)) == born(1801)
    assert keep(1802, Position("e", 4)) == born(1801)
    assert keep(1803, Position("e", 5)) == born(1801)
    assert keep(1804, Position("e", 6)) == born(1804)
    assert keep(1805, Position("f", 1)) == born(1805)
    assert len(cache) == 1 + packed


@pytest.mark.usefixtures("one_open")
def test_nothing_is_left_of_what_was_forgotten() -> None:
    """After forgetting, no entry is left, neither open nor packed."""
    cache = patients()
    for name in ("p1", "p2", "p3"):
        cache.keep(name, born(1801), Position("e", 1))

    cache.clear()

    assert [cache.look(name) for name in ("p1", "p2", "p3")] == [None] * 3
    assert (len(cache), cache.weight) == (0, 0)


@pytest.mark.parametrize("open_ones", [1, 3, 100])
def test_it_stays_within_its_bounds_and_drops_what_was_used_longest_ago(
    open_ones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with a list, over random steps; the seed is printed."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    monkeypatch.setattr(fact_cache, "OPEN", open_ones)
    chance, cache, used = random.Random(SEED), patients(max_entries=8), dict[str, tuple[PatientFacts | None, int]]()
    for step in range(3000):
        name = f"p{chance.randrange(12)}"
        found = cache.look(name)
        assert (None if found is None else (found.value, found.as_of.seq)) == used.get(name)
        if found is not None:
            cache.touch(name)
            used[name] = used.pop(name)
        if chance.random() < 0.5:
            value = chance.choice([None, born(1801), patient(step, chance)])
            cache.keep(name, value, Position("e", step))
            used.pop(name, None)
            used[name] = value, step
            used = dict(list(used.items())[-8:])
        assert len(cache) == len(used)

    alike = patients()
    for name, (value, seq) in used.items():
        alike.keep(name, value, Position("e", seq))
    assert cache.weight == alike.weight


@pytest.mark.parametrize("open_ones", [1, 100])
def test_it_stays_within_its_bytes(open_ones: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open and packed; and what is heavier than all of it is not kept."""
    monkeypatch.setattr(fact_cache, "OPEN", open_ones)
    chance, cache = random.Random(1), patients(max_bytes=50_000)
    for number in range(100):
        cache.keep(str(number), patient(number, chance), Position("e", number))
        assert cache.weight <= 50_000
        cache.look(str(number // 2))
        assert cache.weight <= 50_000
    assert 5 <= len(cache) < 100

    lone = patients(max_bytes=1000)
    lone.keep("p", patient(1, chance), Position("e", 1))
    assert (lone.look("p"), len(lone), lone.weight) == (None, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("many", "most"), [(1000, 8192), (10_000, 2048)])
def test_a_patient_takes_no_more_than_two_kilobytes(many: int, most: int) -> None:
    """Of ten thousand with three documents each (architecture, speed); and weighs what it takes, within a quarter."""
    chance = random.Random(1)
    gc.collect()
    tracemalloc.start()
    cache = patients(many, 2**40)
    for number in range(many):
        facts = msgspec.json.decode(msgspec.json.encode(patient(number, chance)), type=PatientFacts)  # as a store reads
        cache.keep(facts.id, facts, Position("e", number))
        entry = cache.look(facts.id)
        assert entry is not None
        assert entry.value is not None
        assert len(entry.value.digest) == 32
    facts = entry = None
    gc.collect()
    took = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert len(cache) == many
    assert took / many <= most
    assert 0.75 <= cache.weight / took <= 1.25


def test_facts_that_cannot_be_packed_are_not_kept_and_break_nothing() -> None:
    """They were written before numbers of more than 64 bits were refused; an older reading goes, too."""
    memory = FactCache("subject", SubjectFacts, 10, 2**20)
    memory.keep("dr", SubjectFacts("dr"), Position("e", 1))
    memory.keep("dr", SubjectFacts("dr", properties={"ward": 2**70}), Position("e", 2))

    assert memory.look("dr") is None
    assert (len(memory), memory.weight) == (0, 0)
