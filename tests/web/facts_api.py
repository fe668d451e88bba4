"""The control API of a process whose database knew one organisation and one administrator when it began."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from ruqsat.core.facts import Organisation, SubjectFacts
from ruqsat.stores.sql import SqlStore
from tests.sidecar import Sidecar, running_sidecar

DESK = {"purpose_of_use": "PATADMIN"}
PEOPLE: dict[str, dict[str, Any]] = {
    "root": {"roles": ["sysadmin"], "org": "h1", "purpose_of_use": "HSYSADMIN"},
    "mis1": {"roles": ["system_mis"], "org": "h1"} | DESK,
    "mis2": {"roles": ["system_mis"], "org": "h2"} | DESK,
    "reg1": {"roles": ["registrar"], "org": "h1"} | DESK,
    "reg2": {"roles": ["registrar"], "org": "h2"} | DESK,
    "dpo1": {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"},
    "dpo1b": {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"},
    "ed1": {"roles": ["emergency_clinician"], "org": "h1", "purpose_of_use": "ETREAT"},
    "ed2": {"roles": ["emergency_clinician"], "org": "h2", "purpose_of_use": "ETREAT"},
    "anna": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "berik": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
}
PATIENTS = {"anna": "p-anna", "berik": "p-berik"}
STATUS: dict[str, Any] = {
    "birth_date": "1880-03-02", "deceased_at": None, "incapacitated": False, "unable": False, "egov": True,
}  # fmt: skip
H1 = SubjectFacts("h1", roles=(), organisation=Organisation("provider_medical", undertaking=True))
FIRST = (H1, SubjectFacts("root", roles=("sysadmin",), org="h1", organisation=H1.organisation))
OTHERS = (
    SubjectFacts("h2", roles=(), organisation=H1.organisation),
    *(
        SubjectFacts(
            name, roles=tuple(who["roles"]), org=who.get("org"), patient_id=PATIENTS.get(name),
            organisation=H1.organisation if "org" in who else None,
        )
        for name, who in PEOPLE.items() if name != "root"
    ),
)  # fmt: skip


def ago(minutes: float) -> str:
    """Return a moment of the past as it is written."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()


def episode(**changes: Any) -> dict[str, Any]:
    """Return an open emergency at h1."""
    return {"patient": "p-anna", "org": "h1", "form_of_care": "emergency", "start": ago(10)} | changes


def tie(**changes: Any) -> dict[str, Any]:
    """Return a tie of everyone of h1."""
    return {"patient": "p-anna", "org": "h1", "kind": "attachment", "start": ago(10)} | changes


def encounter(**changes: Any) -> dict[str, Any]:
    """Return an Encounter of R4 in the emergency department of h1, in progress."""
    return {
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"},
        "subject": {"reference": "Patient/p-anna"}, "serviceProvider": {"reference": "Organization/h1"},
        "period": {"start": ago(10)},
    } | changes  # fmt: skip


class Api:
    """The control API, called as one or another."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.answers: list[httpx.Response] = []
        self._control, self._json = (
            httpx.Client(base_url=f"http://127.0.0.1:{sidecar.ports[name]}", trust_env=False, timeout=20)
            for name in ("control", "json")
        )

    def call(self, who: str, method: str, path: str, body: Any = None, **claims: Any) -> httpx.Response:
        """Send one request."""
        token = self.sidecar.token(who, **(PEOPLE.get(who, {}) | claims))
        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        answer = self._control.request(method, "/v1/" + path, headers={"authorization": f"Bearer {token}"}, **content)
        self.answers.append(answer)
        return answer

    def put(self, who: str, path: str, body: Any) -> httpx.Response:
        """Write something down that must be taken."""
        answer = self.call(who, "PUT", path, body)
        assert answer.is_success, answer.text
        return answer

    def insist(self, who: str, path: str, body: Any) -> httpx.Response:
        """Write something down as a system does: what is told to try later tries again."""
        for _ in range(100):
            answer = self.call(who, "PUT", path, body)
            if answer.status_code != 503:
                break
            time.sleep(0.01)
        assert answer.is_success, answer.text
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._control.close()
        self._json.close()

    def may(
        self, who: str = "ed1", patient: str = "p-anna", purpose: str = "ETREAT", record: str = "x1",
        labels: Any = (), action: str = "read", data_class: str = "labs", **context: Any,
    ) -> bool:  # fmt: skip
        """Ask whether somebody may read a laboratory result of a patient, or do something else."""
        question = {
            "subject": {"type": "user", "id": who}, "action": {"name": action},
            "resource": {
                "type": "Observation", "id": record,
                "properties": {"patient": patient, "class": data_class, "labels": labels},
            },
            "context": {"purpose": purpose, **context},
        }  # fmt: skip
        return bool(self._json.post("/access/v1/evaluation", json=question).json()["decision"])


def seed(url: str, subjects: tuple[SubjectFacts, ...]) -> None:
    """Put these on record before a process begins."""

    async def write() -> None:
        store = await SqlStore.open(url)
        try:
            await store.record_facts(subjects, ())
        finally:
            await store.aclose()

    asyncio.run(write())


@contextmanager
def serving(folder: Path, url: str | None = None, known: tuple[SubjectFacts, ...] = FIRST + OTHERS) -> Iterator[Api]:
    """Run a process on a database that knew only these, and no patient."""
    folder.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{folder / 'ruqsat.db'}"
    seed(url, known)
    with running_sidecar(folder, database_url=url) as sidecar:
        api = Api(sidecar)
        try:
            yield api
        finally:
            api.close()
