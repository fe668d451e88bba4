"""
Releases of policy as values: a pack in one piece under its address, what is in force, what each sidecar says of it.

A pack's address is the SHA-256 of its whole bytes, cases included: whoever holds the
address can tell whether bytes from anywhere are the ones that were released.  The
digest of the *policy set* (``core.pack.digest_of``) leaves cases out; it is what
answers and the journal name.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from ruqsat.core.admission import Changes
from ruqsat.core.instant import Instant
from ruqsat.core.pack import digest_of
from ruqsat.errors import PolicyError

POLICY = "policy"
"""The key by which the feed tells of every step."""

LONGEST_PACK = 64 * 1024 * 1024

Kind = Literal["stage", "activate"]
Result = Literal["", "preparing", "ready", "refused"]


class Step(Struct, frozen=True):
    """
    One step of the policy's history.

    Attributes:
        generation: 1 for the first; it only grows, whatever the step leads back to.
        kind: ``stage``: to be made ready everywhere; ``activate``: in force from here on.
        address: Of the pack.
        digest: Of its policy set.
        author: Who took the step; ``approval`` is who else agreed to it.
        must_apply: No sidecar may answer by an older set once it can know of this one.
        changes: By what the pack differs from the one then in force.
    """

    generation: int
    kind: Kind
    address: str
    digest: str
    author: str
    reason: str
    approval: str | None
    at: Instant
    must_apply: bool
    changes: Changes


class Released(Struct, frozen=True):
    """Which release brought a policy into force: its number, who decided it, who agreed, and why (a ticket)."""

    generation: int
    author: str
    why: str
    approval: str | None = None


class Standing(Struct, frozen=True):
    """
    What the truth says of policy, to one sidecar that asks.

    Attributes:
        generation: Of the last activation; 0: nothing was ever in force.
        active: Address of the pack in force.
        release: Who activated it, and why; None for nobody.
        must_reach: The last activation that must apply; 0 for none.
        reached: The last activation of the pack that the asking sidecar decides by; 0 for none.
        staged: Address of the pack to be made ready; empty if an activation came after it.
    """

    generation: int = 0
    active: str = ""
    digest: str = ""
    must_reach: int = 0
    reached: int = 0
    staged: str = ""
    staged_digest: str = ""
    release: Released | None = None


class Report(Struct, frozen=True):
    """
    What a sidecar says of itself.

    Attributes:
        in_force: Digest of the policy set that it decides by.
        reached: The generation that this amounts to.
        wanted: Digest of the set that it was to make ready or put in force.
        result: How that went; ``reasons`` says why not.
        denies: It allows nothing, since a set that must apply is not in force here.
    """

    in_force: str
    reached: int
    wanted: str = ""
    result: Result = ""
    reasons: tuple[str, ...] = ()
    denies: bool = False


class Sidecar(Struct, frozen=True):
    """A sidecar's last report, and when it came."""

    name: str
    at: Instant
    report: Report


def encode_texts(texts: Mapping[str, bytes]) -> bytes:
    """Return a pack's files as one piece; alike packs give alike bytes."""
    return msgspec.msgpack.encode(dict(sorted(texts.items())))


def decode_texts(data: bytes) -> dict[str, bytes]:
    """Return the files again; raises ``msgspec.MsgspecError``."""
    return msgspec.msgpack.decode(data, type=dict[str, bytes])


def address_of(body: bytes) -> str:
    """Return the address of a pack in one piece."""
    return hashlib.sha256(body).hexdigest()


def open_pack(address: str, digest: str, body: bytes) -> dict[str, bytes]:
    """
    Return the files of the pack at *address*, if *body* is that pack; *digest* is empty where nobody knows it any more.

    Raises:
        PolicyError: it is another one, or none at all.
    """
    if len(body) > LONGEST_PACK:
        raise PolicyError(f"the pack is larger than {LONGEST_PACK >> 20} MiB")
    if address_of(body) != address:
        raise PolicyError("the bytes of the pack are not those that were released")
    try:
        texts = decode_texts(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise PolicyError("the bytes of the pack are no pack") from error
    if digest and digest_of(texts) != digest:
        raise PolicyError("the pack is not the policy set that was released")
    return texts
