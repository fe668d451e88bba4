"""The day's calls, each by somebody about somebody, and the ledger of what each must leave in a patient's log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import jwt
from examples.demo_day.ground import AUDIENCE, ISSUER, Receiver, Sidecar
from examples.demo_day.hospital import LANGUAGE_OF, Hospital, record
from examples.records_server import RecordsServer

from ruqsat.messages import text_of

GIVE_UP_SECONDS = 60


class Asked(NamedTuple):
    """
    One thing that the script did to a patient's data: what the patient's log must show of it.

    Attributes:
        result: The legal basis if it was allowed, the exact reason if it was denied (``deny.…``).
        before, after: The seconds since 1970 between which it was decided.
        shown: Whether it is a row of the log at all (order §20 has exceptions).
    """

    patient: str
    who: str
    action: str
    data_class: str
    purpose: str
    result: str
    before: float
    after: float
    shown: bool = True

    @property
    def allowed(self) -> bool:
        """Tell whether it was let through."""
        return not self.result.startswith("deny.")


class SurpriseError(Exception):
    """The sidecar answered otherwise than the day is written."""


@dataclass
class Day:
    """A sidecar, the people who call it, and what they did so far."""

    sidecar: Sidecar
    hospital: Hospital
    records: RecordsServer
    receiver: Receiver
    gate: str
    clients: dict[str, httpx.Client]
    asked: list[Asked] = field(default_factory=list)
    forwarded: list[str] = field(default_factory=list)
    """Targets that the gate was to let through, in order."""

    printed: list[str] = field(default_factory=list)
    quiet: bool = False
    told: dict[str, Any] = field(default_factory=dict)
    """What the scenes hand on to each other, and to whoever looks at the day: ids, dates, answers."""

    def headers(self, who: str, **claims: Any) -> dict[str, str]:
        """Return the header with a token of this person."""
        now = int(time.time())
        usual = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
        said = usual | self.hospital.people[who].claims | claims
        return {"authorization": "Bearer " + jwt.encode(said, self.sidecar.token_key, algorithm="HS256")}

    def call(
        self, who: str, method: str, path: str, body: Any = None, *, about: str | None = None, as_: str = "",
        purpose: str | None = None, expect: int | None = None, step_up: bool = False, headers: Any = None,
        shown: bool = True,
    ) -> httpx.Response:  # fmt: skip
        """
        Call the control API.

        Args:
            about: The patient whose data it is about; None where it is about nobody's.
            as_: What is decided of it: ``action class result``, several joined by commas.
            expect: The status that must come; any of success if nothing is said.
        """
        said = purpose or self.hospital.people[who].purpose
        claims: dict[str, Any] = {"purpose_of_use": said}
        claims |= {"amr": ["pwd", "mfa"], "auth_time": int(time.time())} if step_up else {}
        before = time.time()
        answer = self.clients["control"].request(
            method, "/v1/" + path, json=body, headers=self.headers(who, **claims) | (headers or {})
        )
        after = time.time()
        if not (answer.is_success if expect is None else answer.status_code == expect):
            raise SurpriseError(f"{who} {method} {path}: {answer.status_code} {answer.text}")
        for each in filter(None, as_.split(",")):
            action, data_class, result = each.split()
            self.asked.append(Asked(about or "", who, action, data_class, said, result, before, after, shown))
        return answer

    def read(self, who: str, patient: str, data_class: str, result: str, **context: Any) -> bool:
        """Ask over AuthZEN, as the hospital's system does, whether somebody may read a record; *result* must come."""
        return self.ask(who, "read", patient, data_class, result, **context)

    def ask(
        self, who: str, action: str, patient: str, data_class: str, result: str, *, purpose: str | None = None,
        shown: bool = True, **context: Any,
    ) -> bool:  # fmt: skip
        """Ask over AuthZEN whether somebody may; *result* must come."""
        person = self.hospital.people[who]
        said = purpose or person.purpose
        question = {
            "subject": {"type": person.kind, "id": who},
            "action": {"name": action},
            "resource": {
                "type": "Record", "id": record(patient, data_class),
                "properties": {"patient": patient, "class": data_class},
            },
            "context": {"purpose": said, **context},
        }  # fmt: skip
        before = time.time()
        answer = self.clients["json"].post("/access/v1/evaluation", json=question).json()
        asked = Asked(patient, who, action, data_class, said, result, before, time.time(), shown)
        self._check(asked, bool(answer["decision"]), answer["context"]["explain"]["reason"], answer)
        self.show_answer(asked, answer["context"]["reason"])
        return asked.allowed

    def fetch(
        self, who: str, patient: str, data_class: str, result: str, *, purpose: str | None = None,
        session: str | None = None, coarse: str = "",
    ) -> bool:  # fmt: skip
        """Fetch a record through the gate, as a browser does; behind it stands the records server."""
        said = purpose or self.hospital.people[who].purpose
        target = f"/patients/{patient}/{data_class}/{record(patient, data_class)}"
        named = {} if session is None else {"x-ruqsat-session": session}
        before = time.time()
        answer = self.clients["gate"].get(target, headers=self.headers(who, purpose_of_use=said) | named)
        asked = Asked(patient, who, "read", data_class, said, result, before, time.time())
        told = answer.headers.get("x-ruqsat-reason", "")
        if coarse and told != coarse:
            raise SurpriseError(f"{asked}: the client was told {told}")
        self._check(asked, answer.status_code == 200, None, dict(answer.headers))
        if asked.allowed:
            self.forwarded.append(target)
        self.show_answer(asked, told)
        return asked.allowed

    def say(self, *lines: str) -> None:
        """Print, and keep what was printed."""
        for line in lines:
            self.printed.append(line)
            print(line, flush=True)

    def show_answer(self, asked: Asked, told: str) -> None:
        """Print what whoever asked sees: the coarse reason in the own words; the exact one is not theirs to know."""
        if self.quiet:
            return
        language = LANGUAGE_OF.get(asked.who, "ru")
        mark = "✔" if asked.allowed else "✘"
        words = text_of(f"client.{told}", language) or told
        self.say(f"  {mark} {asked.who:<12} {asked.action} {asked.data_class} of {asked.patient}: {words}")

    def _check(self, asked: Asked, allowed: bool, reason: str | None, answer: Any) -> None:
        if allowed != asked.allowed or (reason and not asked.allowed and reason != asked.result):
            raise SurpriseError(f"{asked}: {answer}")
        self.asked.append(asked)

    def log(self, who: str, patient: str, language: str, result: str) -> list[dict[str, Any]]:
        """Read a patient's access log to its end."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"patients/{patient}/access-log?lang={language}&limit=200" + (f"&cursor={cursor}" if cursor else "")
            page = self.call(who, "GET", path, about=patient, as_=f"journal_read journal {result}").json()
            rows += page["entries"]
            cursor = page["next"]
        return rows

    def queue(self, who: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what waits for the privacy office: sessions to review, and proceedings that are owed."""
        before = time.time()
        answer = self.call(who, "GET", "emergency-grants?state=to_review")
        sessions = answer.json()["records"]
        self.asked += [
            Asked(each["patient"], who, "search", "session", "HCOMPL", "operator_duty", before, time.time())
            for each in sessions
        ]
        owed = self.call(who, "GET", "proceedings?state=open").json()["proceedings"]
        return sessions, owed

    def status(self) -> dict[str, Any]:
        """Return what the process says of itself."""
        return dict(self.clients["control"].get("/status").json())

    def settle(self) -> None:
        """Wait until what was decided before this call is shipped into the database, where the views look."""
        wanted = self.status()["journal"]["entries"]
        self._wait(lambda: self.status()["duties"]["journal"]["lines"] >= wanted)

    def wait_until_told(self, *patients: str) -> None:
        """Wait until nothing that these patients, or others because of them, must be told waits any more."""
        for patient in patients:
            self._wait(lambda patient=patient: not self.notices(patient, "&state=pending"), 0.5)

    def notices(self, patient: str, query: str = "") -> list[dict[str, Any]]:
        """Return the notices on record because of a patient, as the privacy office sees them."""
        answer = self.call(
            "dpo-assel", "GET", f"notices?patient={patient}&limit=100{query}", about=patient,
            as_="journal_read journal operator_duty",
        )  # fmt: skip
        return list(answer.json()["notices"])

    @staticmethod
    def _wait(holds: Callable[[], bool], pause: float = 0.05) -> None:
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while not holds():
            if time.monotonic() > give_up:
                raise SurpriseError("what must happen by itself has not happened")
            time.sleep(pause)


def etag(answer: httpx.Response) -> dict[str, str]:
    """Return the header that says which version was read."""
    return {"if-match": answer.headers["etag"]}
