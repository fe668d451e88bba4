"""Break-glass sessions as rates and reviews count them, and what became of the right to open them."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_REVIEW = 72 * 3600 * 1_000_000


def upgrade() -> None:
    """Make both; sessions on record are taken over, to be reviewed within the 72 hours that were promised."""
    sessions = op.create_table(
        "break_glass",
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("subject", _EXACT, nullable=False),
        sa.Column("patient", _EXACT, nullable=False),
        sa.Column("org", _EXACT),
        sa.Column("ward", _EXACT),
        sa.Column("opened_at", _NUMBER, nullable=False),
        sa.Column("due", _NUMBER, nullable=False),
        sa.Column("anomaly", _EXACT, nullable=False),
        sa.Column("overdue_at", _NUMBER),
        sa.Column("settled_at", _NUMBER),
        sqlite_strict=True,
    )
    op.create_index("break_glass_by_subject", "break_glass", ["subject", "opened_at"])
    op.create_index("break_glass_by_ward", "break_glass", ["ward", "opened_at"])
    op.create_index("break_glass_by_patient", "break_glass", ["patient", "opened_at"])
    op.create_index("break_glass_by_due", "break_glass", ["settled_at", "due", "id"])
    op.create_table(
        "break_glass_right",
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("subject", _EXACT, nullable=False),
        sa.Column("at", _NUMBER, nullable=False),
        sa.Column("event", _EXACT, nullable=False),
        sa.Column("cause", _EXACT, nullable=False),
        sa.Column("session", _EXACT, nullable=False),
        sa.Column("by", _EXACT),
        sqlite_strict=True,
    )
    op.create_index("break_glass_right_by_subject", "break_glass_right", ["subject", "at"])
    connection = op.get_bind()
    found = connection.execute(
        sa.text("SELECT id, patient, org, status, created_at, updated_at, body FROM record WHERE kind = 'grant'")
    )
    rows = [_taken_over(row) for row in found if row.status != "invalid"]
    if rows:
        connection.execute(sa.insert(sessions), rows)


def _taken_over(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    return {
        "id": row.id, "subject": json.loads(row.body)["said"]["subject"], "patient": row.patient, "org": row.org,
        "ward": row.org, "opened_at": row.created_at, "due": row.created_at + _REVIEW, "anomaly": "",
        "overdue_at": None, "settled_at": row.updated_at if row.status in ("justified", "misuse") else None,
    }  # fmt: skip
