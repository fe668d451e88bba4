"""Where the local journals are shipped to, and the notices that somebody is to be told of what they hold."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0007"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "journal_entry",
        sa.Column("writer", _EXACT, primary_key=True),
        sa.Column("segment", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("at", _NUMBER, nullable=False),
        sa.Column("kind", _EXACT, nullable=False),
        sa.Column("entry", _EXACT),
        sa.Column("patient", _EXACT),
        sa.Column("subject", _EXACT),
        sa.Column("org", _EXACT),
        sa.Column("action", _EXACT),
        sa.Column("data_class", _EXACT),
        sa.Column("allowed", sa.Integer),
        sa.Column("reason", _EXACT),
        sa.Column("rule", _EXACT),
        sa.Column("basis", _EXACT),
        sa.Column("documents", _EXACT),
        sa.Column("degraded", sa.Integer, nullable=False),
        sa.Column("line", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("journal_entry_by_patient", "journal_entry", ["patient", "at"])
    op.create_index("journal_entry_by_subject", "journal_entry", ["subject", "at"])
    op.create_index("journal_entry_by_entry", "journal_entry", ["entry"])
    op.create_table(
        "journal_beside",
        sa.Column("patient", _EXACT, primary_key=True),
        sa.Column("writer", _EXACT, primary_key=True),
        sa.Column("segment", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sqlite_strict=True,
    )
    op.create_table(
        "journal_cursor",
        sa.Column("writer", _EXACT, primary_key=True),
        sa.Column("segment", _NUMBER, nullable=False),
        sa.Column("number", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "outbox",
        sa.Column("key", _EXACT, primary_key=True),
        sa.Column("state", _EXACT, nullable=False),
        sa.Column("kind", _EXACT, nullable=False),
        sa.Column("audience", _EXACT, nullable=False),
        sa.Column("patient", _EXACT),
        sa.Column("recipient", _EXACT),
        sa.Column("org", _EXACT),
        sa.Column("entry", _EXACT, nullable=False),
        sa.Column("channel", _EXACT),
        sa.Column("reason", _EXACT),
        sa.Column("legal_ground", _EXACT),
        sa.Column("due", _NUMBER, nullable=False),
        sa.Column("deferred_until", _NUMBER),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", _NUMBER, nullable=False),
        sa.Column("claim", _EXACT),
        sa.Column("created_at", _NUMBER, nullable=False),
        sa.Column("settled_at", _NUMBER),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("outbox_by_next", "outbox", ["state", "next_at"])
    op.create_index("outbox_by_patient", "outbox", ["patient", "created_at"])
    op.create_index("outbox_by_entry", "outbox", ["entry"])
    op.create_table(
        "patient_channel",
        sa.Column("patient", _EXACT, primary_key=True),
        sa.Column("channel", _EXACT, nullable=False),
        sa.Column("changed_at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
