"""
What is reported of patients and of their care, written where decisions find it.

Who may is the policy's business, settled before.  Reports of one call, however many, are one transaction, with
one entry of the feed a patient; what changes nothing makes none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct

from ruqsat.core.care import CareRefusedError
from ruqsat.core.fact_changes import FactChange, Found, Made, Wanted
from ruqsat.core.facts import Facts, PatientFacts, Position
from ruqsat.core.instant import Instant
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.consent_changes import RegistryError


class Changes(Protocol):
    """The way in for changes, and to facts: the information point."""

    async def change_facts(self, wanted: Wanted, change: FactChange) -> Position:
        """Change several subjects and patients in one transaction."""
        ...

    async def fetch(self, subject: str | None, patient: str | None) -> Facts:
        """Return usable facts of both."""
        ...


class Report(Struct, frozen=True):
    """One report of a patient; *change* makes the facts of the patient what they are by it."""

    patient: str
    change: Callable[[PatientFacts], PatientFacts]


@dataclass(frozen=True)
class CareRegistry:
    """
    The use cases.

    Attributes:
        vocabulary: The words in force at this moment.
        token: The consistency token of what is known now.
        now: The present moment, its earlier bound.
    """

    changes: Changes
    vocabulary: Callable[[], Vocabulary]
    token: Callable[[], str]
    now: Callable[[], Instant]

    async def find_patient(self, patient: str) -> PatientFacts | None:
        """Return what is known of a patient, None for nobody by that id."""
        return (await self.changes.fetch(None, patient)).patient

    async def put_patient(
        self, patient: str, change_status: Callable[[PatientFacts], PatientFacts]
    ) -> tuple[bool, dict[str, Any]]:
        """Write the status facts of a patient, new or not; return whether it is new, and what the caller is told."""
        created: list[bool] = []

        def change(found: Found) -> Made:
            created[:] = [found.created]
            before = found.patients[patient]
            after = change_status(before)
            return (), (after,) if found.created or after != before else ()

        await self.changes.change_facts(Wanted(patients=(patient,), create=patient), change)
        return created[0], {"id": patient, "token": self.token()}

    async def report(self, reports: Sequence[Report]) -> list[str]:
        """
        Write reports down, one after the other, all in one transaction.

        Returns:
            What became of each: ``written``, ``unchanged``, or the code of why it was refused;
            what is refused stops no other.
        """
        results: list[str] = []

        def change(found: Found) -> Made:
            now_known = dict(found.patients)
            results[:] = [_apply(each, now_known) for each in reports]
            return (), [after for id_, after in now_known.items() if after != found.patients[id_]]

        if reports:
            await self.changes.change_facts(Wanted(patients=tuple({each.patient for each in reports})), change)
        return results

    async def report_one(self, report: Report) -> dict[str, Any]:
        """
        Write one report down.

        Raises:
            RegistryError: it is refused, and why; nothing was changed.
        """
        (result,) = await self.report([report])
        if result not in ("written", "unchanged"):
            raise RegistryError(result, _DETAILS[result])
        return {"result": result, "token": self.token()}


_DETAILS = {
    "unknown-patient": "nobody is on record by this patient id",
    "unknown-report": "there is nothing of this organisation by this id to close",
    "not_permitted": "this is not yours to do, or there is nothing by this id",
    "destroyed": "the record was destroyed: there is nothing to describe any more",
    "reversed": "it ends before it begins",
    "too-many": "the patient has more of them than one may have",
}


def _apply(report: Report, known: dict[str, PatientFacts]) -> str:
    before = known.get(report.patient)
    if before is None:
        return "unknown-patient"
    try:
        after = report.change(before)
    except CareRefusedError as error:
        return error.code
    known[report.patient] = after
    return "unchanged" if after == before else "written"
