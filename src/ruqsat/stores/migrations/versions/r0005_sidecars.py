"""The processes that answer from the database, so that a change can wait until it is in force in each."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "sidecar",
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("epoch", _EXACT, nullable=False),
        sa.Column("applied", _NUMBER, nullable=False),
        sa.Column("lease", _NUMBER, nullable=False),
        sa.Column("beat", _NUMBER, nullable=False),
        sa.Column("seen_at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
