"""
A hospital that other engines can express too: departments, roles, kinds of resources, clearance; no patients.

The shape is that of SAPL's hospital benchmark: 33 rules a department (32 permits by role, kind and actions, for members
of the department; one denial where the resource is more sensitive than the subject is cleared for) and five permits of
emergency staff everywhere.  Denials win, silence denies.  ``rules()`` gives them as values, for whoever writes them in
another language; ``attributes`` gives what such an engine must be told of a question; ``plainly`` decides in ten lines
of Python, as a second opinion.

    world = SharedWorld(seed=1, departments=10)
    for question in world.questions(1000): world.attributes(question), world.right(question).allowed
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import count as from_number
from random import Random
from typing import Any, NamedTuple

from bench.world import EMERGENCIES, MOMENT, ROOT, Person, Question, Written

from ruqsat.core.facts import Facts, Position, SubjectFacts
from ruqsat.core.instant import Instant

ROLES = {
    "attending": (4, "PatientRecord:read write create; LabResult:read order; Prescription:read write prescribe;"
                     " Imaging:read order; CareNote:read write create; Referral:read write create"),
    "resident": (3, "PatientRecord:read write; LabResult:read; Prescription:read; Imaging:read order;"
                    " CareNote:read write create; Referral:read create"),
    "nurse": (3, "PatientRecord:read write; LabResult:read; Prescription:read; CareNote:read write create;"
                 " Schedule:read write"),
    "labTech": (2, "LabResult:read write create; Imaging:read write create"),
    "pharmacist": (3, "Prescription:read write approve; PatientRecord:read"),
    "admin": (2, "Schedule:read write create delete; BillingRecord:read write; AuditLog:read"),
    "billing": (2, "BillingRecord:read write create bill; PatientRecord:read"),
    "auditor": (4, "AuditLog:read write create audit; PatientRecord:read; BillingRecord:read"),
    "researcher": (1, "PatientRecord:read; LabResult:read; Imaging:read"),
}  # fmt: skip
"""By role: its clearance, and its permits within a department."""

ACTIONS = [
    "read",
    "write",
    "create",
    "delete",
    "prescribe",
    "order",
    "discharge",
    "transfer",
    "bill",
    "audit",
    "approve",
    "override",
]
KINDS = [
    "PatientRecord",
    "LabResult",
    "Prescription",
    "Imaging",
    "BillingRecord",
    "Schedule",
    "CareNote",
    "Referral",
    "Consent",
    "AuditLog",
]
EMERGENCY_KINDS = ["PatientRecord", "LabResult", "Prescription", "Imaging", "CareNote"]
EMERGENCY_ACTIONS = ("read", "write", "prescribe", "override")
STAFF_EACH = 5
ELSEWHERE = 0.05
"""The chance of a member of staff to be a member of each other department too."""
MOST_ELSEWHERE = 4
_ASKED = "read " * 7 + "write " * 3 + "create create order prescribe approve bill audit delete"
_ASKED_OF = (
    "PatientRecord " * 3
    + "LabResult LabResult CareNote CareNote Prescription Imaging Schedule BillingRecord AuditLog Referral"
)

VOCABULARY = """reserved = ["USE"]
[roles]
{roles}
[role_groups]
[actions]
{actions}
[classes]
public = "concerns no patient"
[class_groups]
[purposes]
USE = "any"
[labels]
[bases]
shared = {{ means = "a rule of the hospital", reason = "allow.shared" }}
[duties]
[reasons]
allow = "permitted"
deny  = "not_permitted"
[types]
{types}
[attributes.sub]
id        = {{ means = "opaque id" }}
roles     = {{ means = "roles", kind = "list" }}
groups    = {{ means = "departments", kind = "list" }}
clearance = {{ means = "how sensitive it may be", kind = "number", optional = true, stated = true }}
[attributes.act]
name = {{ means = "one of the actions" }}
[attributes.res]
id          = {{ means = "id" }}
type        = {{ means = "kind" }}
data_class  = {{ means = "class", optional = true }}
labels      = {{ means = "labels", kind = "list", optional = true }}
codes       = {{ means = "codes", kind = "list", optional = true }}
department  = {{ means = "whose it is", optional = true, stated = true }}
sensitivity = {{ means = "how sensitive it is", kind = "number", optional = true, stated = true }}
[attributes.ctx]
now     = {{ means = "the present moment", kind = "moment" }}
purpose = {{ means = "purposes stated", kind = "list" }}
"""
LAWS = """[HOSPITAL]
title.kk = "Аурухана"
title.ru = "Больница"
title.en = "Hospital"
edition = 2026-01-01
reviewed_on = 2026-11-26
standing = "read"
link = "bench/shared_world.py"
"""
ROUTES = """[[route]]
id = "read"
methods = ["GET"]
path = "/records/{id}"
action = "read"
type = "PatientRecord"
class = "public"
"""


class SharedRule(NamedTuple):
    """One rule; None stands for any."""

    id: str
    allows: bool
    department: str | None = None
    role: str | None = None
    kind: str | None = None
    actions: tuple[str, ...] = ()
    over_clearance: bool = False


def rules(departments: int) -> Iterator[SharedRule]:
    """Yield 33 rules a department and five for all."""
    for number in range(departments):
        name = f"dept{number}"
        for role, (_, permits) in ROLES.items():
            for permit in permits.split(";"):
                kind, actions = permit.strip().split(":")
                yield SharedRule(f"{name}-{role}-{kind}", True, name, role, kind, tuple(actions.split()))
        yield SharedRule(f"{name}-clearance", False, name, over_clearance=True)
    for kind in EMERGENCY_KINDS:
        yield SharedRule(f"emergency-{kind}", True, None, "emergency", kind, EMERGENCY_ACTIONS)


def plainly(every: Mapping[tuple[str, str, str | None], tuple[str, ...]], asked: dict[str, Any]) -> bool:
    """Decide without any engine; *every* is ``SharedWorld.table``."""
    who, what = asked["subject"], asked["resource"]
    if what["sensitivity"] > who["clearance"]:
        return False
    if asked["action"] in every.get((who["role"], what["type"], None), ()):
        return True
    return what["department"] in who["departments"] and asked["action"] in every.get(
        (who["role"], what["type"], what["department"]), ()
    )


class SharedWorld(Written):
    """
    Departments, their staff, and what they ask.

    Args:
        seed: Settles everything else.
        departments: 1 to 300.
    """

    def __init__(self, seed: int = 1, departments: int = 1, moment: Instant = MOMENT) -> None:
        self.seed, self.departments, self.moment = seed, departments, moment
        self.staff = {each.id: each for each in self._staff()}

    def rules(self) -> Iterator[SharedRule]:
        """Yield the rules as values."""
        return rules(self.departments)

    @cached_property
    def table(self) -> dict[tuple[str, str, str | None], tuple[str, ...]]:
        """The permits' actions by role, kind and department."""
        return {(r.role, r.kind, r.department): r.actions for r in self.rules() if r.allows and r.role and r.kind}

    @cached_property
    def texts(self) -> Mapping[str, bytes]:  # type: ignore[override]
        """The pack: its files by path."""
        permits = [r for r in self.rules() if r.allows]
        denials = [r for r in self.rules() if not r.allows]
        vocabulary = VOCABULARY.format(
            roles="\n".join(f'{name} = "staff"' for name in (*ROLES, "emergency")),
            actions="\n".join(f'{name} = "as named"' for name in ACTIONS),
            types="\n".join(f'{name} = "public"' for name in KINDS),
        )
        files = {
            "policies/vocabulary.toml": vocabulary,
            "policies/laws.toml": LAWS,
            "policies/routes.toml": ROUTES,
            "policies/shared-clearance.csv": _layer(map(_denial, from_number(1), denials)),
            "policies/shared.csv": _layer(map(_permit, from_number(1), permits)),
        }
        model = (ROOT / "model.conf").read_bytes()
        return {name: text.encode() for name, text in files.items()} | {"model.conf": model}

    def _staff(self) -> Iterator[SubjectFacts]:
        chance = Random(self.seed)
        for number in range(self.departments):
            for which in range(STAFF_EACH):
                role = chance.choice(list(ROLES))
                others = min(MOST_ELSEWHERE, sum(chance.random() < ELSEWHERE for _ in range(self.departments - 1)))
                groups = {f"dept{number}", *(f"dept{chance.randrange(self.departments)}" for _ in range(others))}
                yield SubjectFacts(
                    f"staff-{number}-{which}", roles=(role,), groups=tuple(sorted(groups)),
                    properties={"clearance": ROLES[role][0]},
                )  # fmt: skip
            yield SubjectFacts(f"emergency-{number}", roles=("emergency",), properties={"clearance": 4})

    def people(self) -> Iterator[Person]:
        """Yield the staff."""
        yield from self.staff.values()

    def facts_of(self, question: Question) -> Facts:
        """Return what the directory knows of who asks."""
        return Facts(self.staff[question.subject], None, Position("bench", 1))

    def questions(self, count: int, stream: str = "") -> Iterator[Question]:
        """Yield questions: four fifths of the own department, 5 % of emergency staff."""
        chance, asked, asked_of = Random(f"{self.seed}/{stream}"), _ASKED.split(), _ASKED_OF.split()
        for _ in range(count):
            number, emergency = chance.randrange(self.departments), chance.random() < EMERGENCIES
            who = f"emergency-{number}" if emergency else f"staff-{number}-{chance.randrange(STAFF_EACH)}"
            whose = number if chance.random() < 0.8 else chance.randrange(self.departments)
            sensitivity = 1 if chance.random() < 0.7 else chance.randrange(1, 5)
            yield self._ask(
                "emergency" if emergency else "everyday",
                who,
                chance.choice(asked),
                chance.choice(asked_of),
                whose,
                sensitivity,
            )

    def _ask(self, sort: str, who: str, action: str, kind: str, department: int, sensitivity: int) -> Question:
        properties = {"department": f"dept{department}", "sensitivity": sensitivity}
        body = {
            "subject": {"type": "user", "id": who},
            "action": {"name": action},
            "resource": {"type": kind, "id": f"{kind}-{department}-{sensitivity}", "properties": properties},
        }
        return Question(json.dumps(body, separators=(",", ":")).encode(), sort, who)

    def attributes(self, question: Question) -> dict[str, Any]:
        """Return everything that an engine without a directory of its own must be told."""
        asked, who = question.request, self.staff[question.subject]
        assert who.roles is not None and who.properties is not None
        clearance, resource = who.properties["clearance"], asked["resource"]
        return {
            "subject": {"id": who.id, "role": who.roles[0], "departments": list(who.groups), "clearance": clearance},
            "action": asked["action"]["name"],
            "resource": {"type": resource["type"], "id": resource["id"]} | resource["properties"],
        }


def _layer(lines: Iterable[str]) -> str:
    return "# Generated\n" + "\n".join(lines) + "\n"


def _permit(number: int, rule: SharedRule) -> str:
    whose, name = "", rule.department
    if name is not None:
        whose = f" && is_known(r.res, 'department') && r.res.department == '{name}' && '{name}' in r.sub.groups"
    return (
        f"p, 200, shared-{number:05d}, {rule.role}, {' '.join(rule.actions)}, public, *,"
        f" r.res.type == '{rule.kind}'{whose}, allow, shared, -, HOSPITAL"
    )


def _denial(number: int, rule: SharedRule) -> str:
    return (
        f"p, 100, shared-clearance-{number:05d}, *, *, public, *, is_known(r.res, 'department') && r.res.department =="
        f" '{rule.department}' && is_known(r.res, 'sensitivity') && is_known(r.sub, 'clearance')"
        " && r.res.sensitivity > r.sub.clearance, deny, role.clearance, -, HOSPITAL"
    )
