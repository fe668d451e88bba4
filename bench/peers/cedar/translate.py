"""
The world for Cedar: one policy a document, and the tables as attributes of roles.

Cedar has no *exists* over records, so a list of documents cannot be an attribute that a policy walks through.  Its
own way is a policy a document; and because a question is about one patient, only that patient's documents
stand beside the general policies ("policy slicing").  Both the policies of each patient and all entities are parsed
once and kept in memory: in the request itself they would have to be parsed each time.
"""

import json
from typing import Any

from bench.peers.common.rules import Rules, cell
from bench.peers.common.world import Document, Link, Patient, Question, World
from cedarpy import Decision, Entities, PolicySet, is_authorized

GENERAL = """
permit(principal, action, resource)
when { principal has patient && principal.patient == resource.patient && principal.role.own.contains(context.cell) };

permit(principal, action, resource)
when {
  principal.role.emergency.contains(context.cell) && resource.patient.hasTag(principal.org)
  && resource.patient.getTag(principal.org).since <= context.now
  && context.now < resource.patient.getTag(principal.org).until
};

// In an emergency of the own organisation these labels need the glass broken, with or without a consent.
forbid(principal, action, resource)
when {
  principal.role.shut.contains(context.cell) && context.emergency_purpose
  && resource.patient.hasTag(principal.org)
  && resource.patient.getTag(principal.org).since <= context.now
  && context.now < resource.patient.getTag(principal.org).until
  && resource.labels.containsAny(%(glass)s)
};

forbid(principal in Role::"staff", action, resource)
when { resource.labels.containsAny(%(restricted)s) && !principal.role.cleared };
"""


class Policies:
    """Cedar over one world; the world's documents must be written out (``rules.reaching``)."""

    def __init__(self, world: World, rules: Rules) -> None:
        self._world = world
        self._records = {each.id for patient in world.patients.values() for each in patient.records}
        general = PolicySet.from_str(
            GENERAL % {"glass": _set(rules.glass), "restricted": _set(rules.very_restricted)},
        )
        self._policies = {
            patient.id: general.with_added_str("\n".join(_policies(patient))) for patient in world.patients.values()
        }
        self._entities = Entities.from_json_str(json.dumps(_entities(world, rules)))

    def allows(self, who: str, action: str, patient: str, record: str, data_class: str, purpose: str, now: int) -> bool:
        """
        Answer one question; whoever or whatever is not known gets nothing.

        Raises:
            RuntimeError: a policy failed.  Cedar skips it, which opens what a failed *forbid* would shut.
        """
        policies = self._policies.get(patient)
        if policies is None or who not in self._world.people or record not in self._records:
            return False
        context = {"cell": cell(purpose, action, data_class), "purpose": purpose, "now": now,
                   "emergency_purpose": purpose == "ETREAT"}  # fmt: skip
        request = {
            "principal": {"type": "User", "id": who}, "action": {"type": "Action", "id": action},
            "resource": {"type": "Record", "id": record}, "context": context,
        }  # fmt: skip
        answer = is_authorized(request, policies, self._entities)
        if answer.diagnostics.errors:
            raise RuntimeError(answer.diagnostics.errors[0])
        return answer.decision is Decision.Allow

    def answers(self, questions: list[Question]) -> list[bool]:
        """Answer all, at the world's own moment."""
        now = self._world.now
        return [
            self.allows(q.who, q.action, q.patient, q.record.id, q.record.data_class, q.purpose, now) for q in questions
        ]


def _policies(patient: Patient) -> list[str]:
    return [_refusal(each) if each.refuses else _consent(each) for each in patient.documents] + [
        _link(each) for each in patient.links
    ]


def _consent(document: Document) -> str:
    return f"""permit({_who(document)}, {_doing(document)}, resource) when {{
      {_within(document)} && {_set(document.labels)}.containsAll(resource.labels)
      && principal.role.consent.contains(context.cell) && resource.patient.cared_for_at.contains(principal.org)
    }}{_of_role(document)};"""


def _link(link: Link) -> str:
    return f"""permit(principal == User::"{link.delegate}", {_doing(link)}, resource) when {{
      {_within(link)} && {_set(link.labels)}.containsAll(resource.labels)
      && principal.role.delegation.contains(context.cell)
    }};"""


def _refusal(document: Document) -> str:
    """A refusal binds everybody but the patient."""
    labels = f"{_set(document.labels)}.containsAny(resource.labels)" if document.labels else "true"
    return f"""forbid({_who(document)}, {_doing(document)}, resource) when {{
      {_within(document)} && {labels}
    }}{_of_role(document)} unless {{ principal in Role::"patient" }};"""


def _who(document: Document) -> str:
    return f'principal in Org::"{document.org}"' if document.org else "principal"


def _of_role(document: Document) -> str:
    return f' when {{ principal in Role::"{document.role}" }}' if document.role else ""


def _doing(permit: Document | Link) -> str:
    named = ", ".join(f'Action::"{each}"' for each in permit.actions)
    return f"action in [{named}]" if permit.actions else "action"


def _within(permit: Document | Link) -> str:
    parts = [f"context.now >= {permit.since}"]
    if permit.until:
        parts.append(f"context.now < {permit.until}")
    if permit.purposes:
        parts.append(f"{_set(permit.purposes)}.contains(context.purpose)")
    if permit.classes:
        parts.append(f"{_set(permit.classes)}.contains(resource.class)")
    return " && ".join(parts)


def _set(words: Any) -> str:
    return json.dumps(sorted(words))


def _entities(world: World, rules: Rules) -> list[dict[str, Any]]:
    roles = {person.role for person in world.people.values()}
    found = [
        _entity("Role", role, [] if role in ("patient", "delegate") else [("Role", "staff")], {
            "own": sorted(rules.own[role]) if role == "patient" else [],
            "delegation": sorted(rules.delegation[role]) if role == "delegate" else [],
            "cleared": role in rules.cleared,
            **{table: sorted(getattr(rules, table)[role]) for table in ("consent", "emergency", "shut")},
        })
        for role in sorted(roles)
    ]  # fmt: skip
    found += [_entity("Role", "staff", [], {}), _entity("Org", "", [], {})]
    found += [_entity("Org", org, [], {}) for org in sorted({each.org for each in world.people.values()} - {""})]
    for person in world.people.values():
        own = {"patient": _ref("Patient", person.patient)} if person.patient else {}
        found.append(
            _entity("User", person.id, [("Role", person.role), ("Org", person.org)],
                    {"role": _ref("Role", person.role), "org": person.org, **own})
        )  # fmt: skip
    for patient in world.patients.values():
        tags = {each.org: {"since": each.since, "until": each.until} for each in patient.episodes}
        found.append(_entity("Patient", patient.id, [], {"cared_for_at": list(patient.cared_for_at)}, tags))
        found += [
            _entity("Record", each.id, [], {
                "class": each.data_class, "labels": list(each.labels), "patient": _ref("Patient", patient.id),
            })
            for each in patient.records
        ]  # fmt: skip
    return found


def _entity(
    kind: str, name: str, parents: list[tuple[str, str]], attrs: dict[str, Any], tags: dict[str, Any] | None = None
) -> dict[str, Any]:
    uid = {"type": kind, "id": name}
    return {
        "uid": uid,
        "attrs": attrs,
        "parents": [{"type": each, "id": of} for each, of in parents],
        "tags": tags or {},
    }


def _ref(kind: str, name: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": name}}
