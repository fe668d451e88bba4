"""Releases of policy: packs by their address, the steps that staged and activated them, what sidecars say of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "policy_pack",
        sa.Column("address", _EXACT, primary_key=True),
        sa.Column("digest", _EXACT, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "policy_step",
        sa.Column("generation", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("kind", _EXACT, nullable=False),
        sa.Column("address", _EXACT, nullable=False),
        sa.Column("author", _EXACT, nullable=False),
        sa.Column("reason", _EXACT, nullable=False),
        sa.Column("approval", _EXACT),
        sa.Column("at", _NUMBER, nullable=False),
        sa.Column("must_apply", sa.Integer, nullable=False),
        sa.Column("changes", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "policy_report",
        sa.Column("sidecar", _EXACT, primary_key=True),
        sa.Column("at", _NUMBER, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
