"""Where a bulk import is prepared: what its file states, whose its documents are, and how far it has come."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make them; without indexes, since they are only filled and then read whole."""
    op.create_table(
        "facts_import",
        sa.Column("subject", sa.Integer, nullable=False),
        sa.Column("id", _EXACT, nullable=False),
        sa.Column("line", _NUMBER, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("set_aside", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "facts_import_document",
        sa.Column("id", _EXACT, nullable=False),
        sa.Column("patient", _EXACT, nullable=False),
        sa.Column("kind", _EXACT, nullable=False),
        sa.Column("line", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "facts_import_run",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("source", sa.LargeBinary, nullable=False),
        sa.Column("place", _NUMBER, nullable=False),
        sa.Column("line", _NUMBER, nullable=False),
        sa.Column("subjects", _NUMBER, nullable=False),
        sa.Column("patients", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
