"""
What is asked of the tables of policy releases, one function a question.

As in ``sql_facts``, each takes a Connection inside a transaction and neither begins
nor ends one.  Packs are kept by their address and never changed; steps are only
added.  The pointer to what is in force is the last step that activated something:
there is no row that could be turned back.
"""

from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ruqsat.core.admission import Changes
from ruqsat.core.facts import Position
from ruqsat.core.instant import HOUR, Instant
from ruqsat.core.policy_release import (
    POLICY,
    Released,
    Report,
    Sidecar,
    Standing,
    Step,
    address_of,
    encode_texts,
    open_pack,
)
from ruqsat.errors import PolicyError, StoreUnavailableError
from ruqsat.stores.sql_facts import Kind, advance_feed, read_position
from ruqsat.stores.sql_schema import policy_pack, policy_report, policy_step

REPORTS_KEPT: Instant = 24 * HOUR

_encode = msgspec.json.Encoder().encode
_read_report = msgspec.json.Decoder(Report).decode
_read_changes = msgspec.json.Decoder(Changes).decode

_step = policy_step.c
# An outer join: a pack that is lost must not make an earlier step look like the last one.
_JOINED = policy_step.outerjoin(policy_pack, _step.address == policy_pack.c.address)
_DIGEST = func.coalesce(policy_pack.c.digest, "").label("digest")
_NEWEST = (
    select(_step.generation, _step.kind, _step.address, _DIGEST)
    .select_from(_JOINED)
    .order_by(_step.generation.desc())
    .limit(1)
)
_ACTIVE = _NEWEST.where(_step.kind == "activate").add_columns(_step.author, _step.reason, _step.approval)
_GENERATION = select(func.coalesce(func.max(_step.generation), 0))
_MUST = _GENERATION.where(_step.kind == "activate", _step.must_apply == 1)
_REACHED = _GENERATION.where(_step.kind == "activate", _step.address == bindparam("mine"))
_PACK = select(policy_pack.c.body).where(policy_pack.c.address == bindparam("wanted"))
_FIRST_AUTHOR = (
    select(_step.author)
    .where(_step.address == bindparam("wanted"), _step.kind == "stage")
    .order_by(_step.generation)
    .limit(1)
)


def read_standing(connection: Connection, mine: str) -> tuple[Standing, Position]:
    """Return what is in force and what is staged, for whoever decides by the pack at *mine*; and the position."""
    # The head comes first, as with facts: what is read may look older than it is, never newer.
    position = read_position(connection)
    newest, active = (connection.execute(question).one_or_none() for question in (_NEWEST, _ACTIVE))
    must_reach, reached = (int(connection.execute(each, {"mine": mine}).scalar_one()) for each in (_MUST, _REACHED))
    standing = Standing(must_reach=must_reach, reached=reached)
    if active is not None:
        release = Released(active.generation, active.author, active.reason, active.approval)
        standing = replace(
            standing, generation=active.generation, active=active.address, digest=active.digest, release=release
        )
    if newest is not None and newest.kind == "stage":
        standing = replace(standing, staged=newest.address, staged_digest=newest.digest)
    return standing, position


def read_pack(connection: Connection, address: str) -> bytes | None:
    """Return the bytes that are kept under *address*, unverified; None for none."""
    body: bytes | None = connection.execute(_PACK, {"wanted": address}).scalar_one_or_none()
    return body


def read_steps(connection: Connection) -> list[Step]:
    """
    Return the whole history, oldest first.

    Raises:
        StoreUnavailableError: what is stored cannot be read.
    """
    question = select(policy_step, _DIGEST).select_from(_JOINED).order_by(_step.generation)
    return [_read_step(dict(row)) for row in connection.execute(question).mappings()]


def _read_step(columns: dict[str, Any]) -> Step:
    try:
        changes = _read_changes(columns["changes"])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise StoreUnavailableError("a stored step cannot be read, the database may be damaged") from error
    return Step(**columns | {"changes": changes, "must_apply": bool(columns["must_apply"])})


def add_pack(connection: Connection, texts: dict[str, bytes], digest: str) -> str:
    """
    Keep a pack, and return its address; the same pack is kept once.

    Raises:
        PolicyError: it is too large, or not the policy set of that digest.
    """
    body = encode_texts(texts)
    address = address_of(body)
    open_pack(address, digest, body)
    fresh = postgresql.insert(policy_pack) if connection.dialect.name == "postgresql" else sqlite.insert(policy_pack)
    connection.execute(fresh.on_conflict_do_nothing(), {"address": address, "digest": digest, "body": body})
    return address


def add_steps(connection: Connection, steps: tuple[Step, ...]) -> Position:
    """
    Add steps, whose generations follow the last one, and tell the feed; the last thing before a commit.

    Raises:
        PolicyError: another step came between, or the author approves of the own policy.
    """
    last = int(connection.execute(_GENERATION).scalar_one())
    if [step.generation for step in steps] != list(range(last + 1, last + 1 + len(steps))):
        raise PolicyError("another release came between: look at `ruqsat policy releases` and try again")
    try:
        for step in steps:
            _refuse_own_approval(connection, step)
            columns = {name: getattr(step, name) for name in policy_step.c.keys()}  # noqa: SIM118 - these are no dict
            columns |= {"changes": _encode(step.changes), "must_apply": int(step.must_apply)}
            connection.execute(insert(policy_step), columns)
    except IntegrityError:
        raise PolicyError("another release came at the same time: try again") from None
    return advance_feed(connection, [(Kind.POLICY, POLICY)])[0]


def _refuse_own_approval(connection: Connection, step: Step) -> None:
    author = connection.execute(_FIRST_AUTHOR, {"wanted": step.address}).scalar_one_or_none() or step.author
    if step.approval is not None and step.approval in (author, step.author):
        raise PolicyError("an author does not approve of the own policy: somebody else must")


def write_report(connection: Connection, sidecar: str, at: Instant, report: Report) -> None:
    """Replace a sidecar's report, and forget those that are a day old; the feed is not told."""
    columns = {"sidecar": sidecar, "at": at, "body": _encode(report)}
    connection.execute(delete(policy_report).where(policy_report.c.at < at - REPORTS_KEPT))
    connection.execute(delete(policy_report).where(policy_report.c.sidecar == sidecar))
    connection.execute(insert(policy_report), columns)


def drop_report(connection: Connection, sidecar: str) -> None:
    """Forget a sidecar that stops."""
    connection.execute(delete(policy_report).where(policy_report.c.sidecar == sidecar))


def read_reports(connection: Connection) -> list[Sidecar]:
    """
    Return the sidecars' last reports, by name.

    Raises:
        StoreUnavailableError: what is stored cannot be read.
    """
    rows = connection.execute(select(policy_report).order_by(policy_report.c.sidecar))
    try:
        return [Sidecar(row.sidecar, row.at, _read_report(row.body)) for row in rows]
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise StoreUnavailableError("a stored report cannot be read, the database may be damaged") from error
