"""Synthetic people of a run: the demo world's, and patients like its Dana, each with an identification number."""

import asyncio
from typing import Any, NamedTuple

import msgspec

from ruqsat.core.admission import WORLD
from ruqsat.core.cases import read_world
from ruqsat.core.identification import control_digit
from ruqsat.core.pack import load_pack
from ruqsat.core.projection import project_world
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.sql import SqlStore
from tests.conftest import ROOT
from tests.registry.corpus import changed
from tests.registry.documents import verified

MODEL_PATIENT, MODEL_CONSENT = "p-dana", "c-dana-h1"


class Patient(NamedTuple):
    """A patient of h1, whom dr_aida treats."""

    id: str
    iin: str


def patient(number: int) -> Patient:
    """Return the patient of a number; identification numbers are of nobody, and valid."""
    digits = [f"88080811{free:03d}" for free in range(number * 2, number * 2 + 2)]
    iin = next(each + str(digit) for each in digits if (digit := control_digit(each)) is not None)
    return Patient(f"p-{number:03d}", iin)


async def populate(url: str, touched: list[Patient], untouched: list[Patient]) -> None:
    """
    Record the demo world, and these patients.

    The *untouched* have consented to h1 as Dana has; the *touched* have not yet.
    """
    texts = load_texts(ROOT)
    policy_set, _ = load_pack(texts)
    assert policy_set is not None
    subjects, patients = project_world(read_world(texts, WORLD), policy_set.vocabulary.switches)
    model = next(each for each in patients if each.id == MODEL_PATIENT)
    consent = next(each for each in model.consents if each.id == MODEL_CONSENT)
    replace = msgspec.structs.replace
    like = [replace(model, id=each.id, consents=(), delegations=(), records=()) for each in touched] + [
        replace(
            model,
            id=each.id,
            consents=(replace(consent, id=f"c-{each.id}", thread=f"{each.id}|h1|processing"),),
            delegations=(),
            records=(),
        )
        for each in untouched
    ]
    store = await SqlStore.open(url)
    try:
        await store.record_facts(subjects, (*patients, *like))
    finally:
        await store.aclose()


def populate_now(url: str, touched: list[Patient], untouched: list[Patient]) -> None:
    """The same, where no loop runs."""
    asyncio.run(populate(url, touched, untouched))


def document(patient: Patient, number: int) -> dict[str, Any]:
    """Return the whole, verified consent of a patient to h1, the *number*-th that was signed."""
    hours, rest = divmod(number, 3600)
    return changed(
        {
            "patient": patient.id,
            "given_by.id": patient.id,
            "owner.iin": patient.iin,
            "signature.cert_iin": patient.iin,
            "signature.at": f"2026-04-{2 + hours // 24:02d}T{hours % 24:02d}:{rest // 60:02d}:{rest % 60:02d}Z",
        },
        verified(),
    )
