"""
Who may say what: for each attribute that rules can ask about, or that a request can carry, where it may come from.

The tables of ``docs/attributes.md`` are made from this.  It does not decide
anything by itself: what nobody may say has no field in :mod:`ruqsat.core.request`,
and tests hold this list to those fields, to the vocabulary and to the listeners.
"""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

Sayer = Literal["application", "token", "request", "server"]
"""
Who may say an attribute in a request: an enforcement point at the JSON listener (registered; whoever reaches a local
listener where none is), a token that was verified, the method and address of the request that a proxy tells
(``routes.toml``), the FHIR server that is asked whose a record is.
"""

Knower = Literal["store", "sidecar"]
"""Who knows it beside them: the database; the sidecar itself, by its clock and its state."""

TABLES = {"sub": "Subject", "act": "Action", "res": "Resource", "ctx": "Context"}


class Attribute(Struct, frozen=True):
    """
    Where an attribute may come from.

    Attributes:
        said: Who may state it in a request; empty: nobody may.
        known: Who knows it without being told.
        together: What counts where several of these give a value; empty where only one can.
    """

    said: tuple[Sayer, ...] = ()
    known: tuple[Knower, ...] = ()
    together: str = ""


_APPLICATION = Attribute(("application",))
_STORE = Attribute((), ("store",))
_SIDECAR = Attribute((), ("sidecar",))
_EITHER: tuple[Sayer, ...] = ("application", "token")
_RECORD: tuple[Sayer, ...] = ("application", "request")

ATTRIBUTES: dict[str, dict[str, Attribute]] = {
    "sub": {
        "id": Attribute(_EITHER),
        "type": Attribute(_EITHER),
        "roles": Attribute(_EITHER, ("store",), "a role must be in both, unless nothing is said"),
        "org": Attribute(_EITHER, ("store",), "two that differ are none"),
        "active": _STORE,
        "groups": _STORE,
        "patient_id": _STORE,
        "btg_suspended": _STORE,
        "supervised": _STORE,
        "org_category": _STORE,
        "org_undertakes": _STORE,
        "btg_today": _STORE,
    },
    "act": {"name": Attribute(_RECORD)},
    "res": {
        "id": Attribute(_RECORD),
        "type": Attribute(_RECORD),
        "patient": Attribute((*_RECORD, "server")),
        "data_class": Attribute((*_RECORD, "server"), ("store",), "two that differ are none"),
        "labels": Attribute(
            ("application", "server"), ("store",), "those of all; the server's never say that these are all"
        ),
        "conf": Attribute(("application", "server"), ("store",), "the higher; of the server's only R and V"),
        "created": _APPLICATION,
        "author": Attribute(("application", "server"), (), "the server's where it is sure and ids are shared"),
        "author_org": Attribute(("application", "server"), (), "the server's where it is sure and ids are shared"),
        "encounter": _APPLICATION,
        "codes": _APPLICATION,
        "database_country": _APPLICATION,
        "deidentified": _APPLICATION,
        "blocked": Attribute(("application",), ("store",), "either"),
        "destroyed": _STORE,
        "state_secret": _APPLICATION,
        "immigrant": _APPLICATION,
        "id_document_copy": _APPLICATION,
        "self_consented": _APPLICATION,
        "parts": Attribute(
            ("application", "server"),
            (),
            "each is decided as a record of its own; one of class `directory` or `public` is nobody's unless it names "
            "a patient",
        ),
        "atomic": Attribute(("application", "server")),
    },
    "ctx": {
        "now": _SIDECAR,
        "purpose": Attribute(("application", "token", "request"), (), "the token's; a route's where it says none"),
        "destination_country": _APPLICATION,
        "art16_3": _APPLICATION,
        "relink": _APPLICATION,
        "btg_session": Attribute(("application",), ("store",), "the session must be on record, and the subject's"),
        "emergency": _STORE,
        "relationship": _STORE,
        "pep_capabilities": Attribute(("application",), (), "only narrows what the point is registered for"),
        "supported_obligations": Attribute(("application",), (), "only narrows what the point is registered for"),
        "legal_request": Attribute(("application",), ("store",), "one that is on record must bear it out"),
        "inspection": _APPLICATION,
        "recipient": _APPLICATION,
        "recipient_category": _STORE,
        "recipient_undertakes": _STORE,
        "art137_1": _APPLICATION,
        "suspected_crime": _APPLICATION,
        "mental_deviation": _APPLICATION,
        "sexual_violence_inclination": _APPLICATION,
        "subject_demand": _APPLICATION,
        "defer_notice": _APPLICATION,
        "cohort_size": _APPLICATION,
        "source": _APPLICATION,
        "links_databases": _APPLICATION,
        "harmful": _APPLICATION,
        "own_episode": _STORE,
        "care_consent": _STORE,
        "unable": _STORE,
        "deceased": _STORE,
        "represented": _STORE,
        "consents_known": _SIDECAR,
        "smart_scopes": Attribute(_EITHER, (), "only narrows"),
        "launch_patient": Attribute(_EITHER, (), "only narrows"),
        "consistency_token": Attribute(("application",), (), "only of our own making"),
    },
}


def render_tables() -> str:
    """Return the tables of ``docs/attributes.md``."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for entity, title in TABLES.items():
        yield from (f"### {title}", "", "| | said by | known by | both |", "|---|---|---|---|")
        for name, attribute in ATTRIBUTES[entity].items():
            said = ", ".join(attribute.said) or "**nobody**"
            yield f"| `{name}` | {said} | {', '.join(attribute.known) or '-'} | {attribute.together or '-'} |"
        yield ""
