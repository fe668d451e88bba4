"""
Nothing stands in the pack for nothing: whatever is deleted, a scenario or a case gives another answer.

Deleted are, one at a time: each criterion of each matcher, each rule, each row of the role
matrix, each link of a hierarchy.  The set is then built without the checker, so that only a
promise can notice.  What no promise notices counts as noticed if the checker refuses the
pack without that line; else it stands below with the reason why nothing can notice it.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import pytest

from ruqsat.core.evaluate import evaluate
from ruqsat.core.expression import All, Call, conjuncts
from ruqsat.core.pack import Parts, read_parts, variants_of
from ruqsat.core.world import World
from tests.conformance.questions import Asked, Variant, policy_cases, scenarios

EQUIVALENT: dict[str, str] = {
    "g3 ERTREAT TREAT": "links are closed over: ERTREAT is a kind of ETREAT, and that of TREAT",
    "g3 BTG TREAT": "links are closed over: BTG is a kind of ETREAT, and that of TREAT",
}
"""Deletions that change no answer at all, and why."""

NOT_NOTICED_YET: dict[str, str] = {
    "p5 nurse TREAT ETREAT BTG create update vitals medications procedures immunizations careplan documents": "nurse_gulnar create vitals of p-dana for TREAT: allow.consent by consent-02",
    "p5 pharmacist TREAT HPAYMT read search demographics medications allergies": "a pharmacist whom a consent names reads medications for TREAT: allow.consent by consent-01",
    "p5 pharmacist TREAT HPAYMT create update medications": "a pharmacist whom a consent names creates medications for HPAYMT: allow.consent by consent-04",
    "p5 lab_diagnostic TREAT read search demographics careplan labs imaging": "a laboratory of h1 reads the careplan of p-dana for TREAT: allow.consent by consent-01",
    "g nurse emergency_staff": "nurse_gulnar reads labs for ETREAT in an open episode, no documents: allow.emergency.default by emergency-01",
    "g nurse care_staff": "nurse_gulnar read o1 TREAT: allow.consent by consent-01",
    "g pharmacist care_staff": "a pharmacist whom a consent names reads medications for TREAT: allow.consent by consent-01",
    "g2 encounters clinical": "dana reads her own encounters for PATRQT: allow.self by self-access-01",
    "g2 careplan clinical": "dana reads her own careplan for PATRQT: allow.self by self-access-01",
    "g2 social clinical": "dana reads her own social for PATRQT: allow.self by self-access-01",
    "g2 genomics clinical": "dana reads her own genomics for PATRQT: allow.self by self-access-01",
    "g2 patient_reported clinical": "dana reads her own patient_reported for PATRQT: allow.self by self-access-01",
    "g2 demographics emergency_set": "a consent for emergency_set, or a session with that scope, opens demographics",
    "g2 allergies emergency_set": "a consent for emergency_set, or a session with that scope, opens allergies",
    "g2 medications emergency_set": "a consent for emergency_set, or a session with that scope, opens medications",
    "g2 conditions emergency_set": "a consent for emergency_set, or a session with that scope, opens conditions",
    "g2 immunizations emergency_set": "a consent for emergency_set, or a session with that scope, opens immunizations",
    "g2 procedures emergency_set": "a consent for emergency_set, or a session with that scope, opens procedures",
    "g2 vitals emergency_set": "a consent for emergency_set, or a session with that scope, opens vitals",
    "g2 labs emergency_set": "a consent for emergency_set, or a session with that scope, opens labs",
    "g2 imaging emergency_set": "a consent for emergency_set, or a session with that scope, opens imaging",
    "g2 documents emergency_set": "a consent for emergency_set, or a session with that scope, opens documents",
    "g2 encounters emergency_set": "a consent for emergency_set, or a session with that scope, opens encounters",
    "g3 ETREAT TREAT": "dr_aida read o1 ETREAT, no open episode: allow.consent by consent-01",
    "g3 BTG ETREAT": "a session, abroad, and a consent for ETREAT that names the country: allow.emergency.override",
    "g4 COC TREAT": "a consent and a refusal of TREAT; a physician asks for COC: deny.consent.deny by refusals-01",
    "g4 ETREAT TREAT": "a refusal of TREAT, an open episode, ETREAT: deny.emergency.btg_required",
    "g4 ERTREAT ETREAT": "a refusal of ETREAT, an open episode, an emergency clinician for ERTREAT: deny.emergency.btg_required",
    "g4 BTG ETREAT": "a refusal of ETREAT and an open session: by break-glass-02, not -01",
    "g4 PATADMIN HOPERAT": "a refusal of HOPERAT; a registrar reads encounters: deny.consent.deny by refusals-01",
    "g4 TRAIN HOPERAT": "a consent for TRAIN, a refusal of HOPERAT, a supervised trainee: deny.consent.deny by refusals-01",
    "g4 THREAT PUBHLTH": "a refusal of PUBHLTH; a physician reads for THREAT: deny.consent.deny by refusals-01",
    "g4 CLINTRCH HRESCH": "the research switch on, a consent for CLINTRCH, a refusal of HRESCH: by research-limits-02",
    "g5 PSYTHPN PSY": "a consent that names PSYTHPN, a refusal of PSY: deny.consent.deny",
    "g5 OPIOIDUD SUD": "a consent that names SUD, a record with OPIOIDUD: allow.consent",
    "g4 FAMRQT PATRQT": "a delegation, a refusal of PATRQT, FAMRQT: deny.consent.deny by delegation-limits-03",
    "g4 SUPNWK PATRQT": "a delegation, a refusal of PATRQT, SUPNWK: deny.consent.deny by delegation-limits-03",
    "g4 HPRGRP HOPERAT": "an analyst abroad; a consent for HPRGRP and the country, its exception refuses HOPERAT: by hard-deny-02",
    "g4 HCOMPL HOPERAT": "the privacy officer abroad; a consent for HCOMPL and the country, its exception refuses HOPERAT: by hard-deny-02",
    "g4 HLEGAL HOPERAT": "a records officer on a court's request abroad; a consent for HLEGAL and the country, its exception refuses HOPERAT: by hard-deny-02",
    "g4 HSYSADMIN HOPERAT": "a system administrator abroad; a consent for HSYSADMIN and the country, its exception refuses HOPERAT: by hard-deny-02",
    "g4 PWATRNY PATRQT": "a representative abroad; a consent for PWATRNY and the country, its exception refuses PATRQT: by hard-deny-02",
}
"""Deletions that no promise notices so far, and a case that would."""


class Deletion(NamedTuple):
    """One thing taken out of the pack; ``place`` is its file and line, if it stands on one line."""

    name: str
    left: Parts
    place: tuple[str, int] | None = None


def shorter_matchers(parts: Parts) -> Iterator[Deletion]:
    """The model without one criterion of one matcher."""
    for suffix, section in parts.model.sections.items():
        criteria = conjuncts(section.matcher)
        for number, criterion in enumerate(criteria):
            left = msgspec.structs.replace(section, matcher=All(criteria[:number] + criteria[number + 1 :]))
            model = msgspec.structs.replace(parts.model, sections=parts.model.sections | {suffix: left})
            name = criterion.function if isinstance(criterion, Call) else "eval"
            yield Deletion(f"m{suffix} {name}", msgspec.structs.replace(parts, model=model))


def fewer_rows(parts: Parts, kind: str) -> Iterator[Deletion]:
    """The pack without one row of a kind (``p``, ``p5``, or ``g`` for every hierarchy)."""
    for number, row in enumerate(parts.rows):
        if row.kind == kind or kind == "g" == row.kind[0]:
            cells = ("id",) if kind == "p" else [name for name in row.cells if name not in ("eft", "law")]
            name = " ".join([row.kind, *(row.text(cell) for cell in cells)])
            left = msgspec.structs.replace(parts, rows=parts.rows[:number] + parts.rows[number + 1 :])
            yield Deletion(name, left, (row.span.file, row.span.line))


def deletions(parts: Parts) -> Iterator[Deletion]:
    """Everything that can be deleted."""
    yield from shorter_matchers(parts)
    for kind in ("p", "p5", "g"):
        yield from fewer_rows(parts, kind)


@pytest.fixture(scope="module")
def promises(pack_texts: dict[str, bytes], world: World, variant: Variant) -> list[Asked]:
    """Every scenario and case, ready to be asked; those under the pack's own switches first."""
    asked = [*scenarios(variant), *policy_cases(pack_texts, world, variant)]
    return sorted(asked, key=lambda each: bool(each.switches))


def first_broken(promises: list[Asked], product: Variant) -> str | None:
    """The first promise that a product breaks."""
    return next((each.name for each in promises if each.wrong(evaluate(product(each.switches), *each[1:5]))), None)


def is_refused(texts: Mapping[str, bytes], place: tuple[str, int] | None) -> bool:
    """Tell whether the checker refuses the pack without that line."""
    if place is None:
        return False
    file, number = place
    lines = texts[file].split(b"\n")
    return read_parts({**texts, file: b"\n".join(lines[: number - 1] + lines[number:])})[0] is None


def test_the_pack_itself_keeps_every_promise(promises: list[Asked], variant: Variant) -> None:
    """Otherwise what follows would show nothing."""
    assert first_broken(promises, variant) is None


def test_a_rule_that_nothing_is_promised_of_is_found(parts: Parts, promises: list[Asked], variant: Variant) -> None:
    """Planted: without the promises that one rule settles, nothing misses it; with them, something does."""
    without = next(each.left for each in deletions(parts) if each.name == "p consent-05")
    others = [each for each in promises if evaluate(variant(each.switches), *each[1:5]).rule != "consent-05"]

    assert first_broken(others, variants_of(without)) is None
    assert first_broken(promises, variants_of(without)) is not None


def test_what_the_checker_refuses_is_told_apart(parts: Parts, pack_texts: dict[str, bytes]) -> None:
    """A file whose only rule is gone is refused, one that keeps others is not."""
    places = {each.name: each.place for each in deletions(parts)}

    assert is_refused(pack_texts, places["p entitlement-01"])
    assert not is_refused(pack_texts, places["p consent-05"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_deleted_is_missed(parts: Parts, pack_texts: dict[str, bytes], promises: list[Asked]) -> None:
    """Each deletion breaks a promise, or is refused by the checker, or is argued above; no argument is stale."""
    mutants = list(deletions(parts))
    unnoticed = [each for each in mutants if first_broken(promises, variants_of(each.left)) is None]
    refused = {each.name for each in unnoticed if is_refused(pack_texts, each.place)}
    survivors = {each.name for each in unnoticed} - refused
    argued = {*EQUIVALENT, *NOT_NOTICED_YET}
    print(f"{len(mutants)} deletions; noticed by the checker alone: {sorted(refused)}")

    assert not survivors - argued, "no scenario and no case notices that these are gone:\n" + "\n".join(
        sorted(survivors - argued)
    )
    assert not argued - survivors, f"noticed now, or no longer there; take off the list: {sorted(argued - survivors)}"
