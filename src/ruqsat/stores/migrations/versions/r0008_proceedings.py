"""Proceedings with terms, what the clock said of each; consents by when they changed, to follow withdrawals up."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "proceeding",
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("kind", _EXACT, nullable=False),
        sa.Column("patient", _EXACT),
        sa.Column("org", _EXACT),
        sa.Column("owner", _EXACT),
        sa.Column("version", _NUMBER, nullable=False),
        sa.Column("status", _EXACT, nullable=False),
        sa.Column("stage", _NUMBER, nullable=False),
        sa.Column("is_open", sa.Integer, nullable=False),
        sa.Column("received_on", _EXACT, nullable=False),
        sa.Column("due", _EXACT, nullable=False),
        sa.Column("warn_on", _EXACT, nullable=False),
        sa.Column("outer_due", _EXACT, nullable=False),
        sa.Column("calendar", _EXACT, nullable=False),
        sa.Column("created_at", _NUMBER, nullable=False),
        sa.Column("updated_at", _NUMBER, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("sealed_at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("proceeding_by_due", "proceeding", ["is_open", "due", "id"])
    op.create_index("proceeding_by_patient", "proceeding", ["patient", "due", "id"])
    op.create_table(
        "proceeding_event",
        sa.Column("proceeding", _EXACT, primary_key=True),
        sa.Column("event", _EXACT, primary_key=True),
        sa.Column("due", _EXACT, nullable=False),
        sa.Column("at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("consent_record_by_change", "consent_record", ["updated_at"])
