"""What was erased is remembered by the hashes of its parts, so that no late shipping brings it back."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make the table of erased parts."""
    op.create_table(
        "journal_erased",
        sa.Column("part", _EXACT, primary_key=True),
        sa.Column("act", _EXACT, nullable=False),
        sa.Column("at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
