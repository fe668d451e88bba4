"""The first tables: facts, the feed of changes, whose a document is; and what makes this database itself."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make them, and give the database an epoch and a token key of its own."""
    head = op.create_table(
        "feed_head",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("epoch", _EXACT, nullable=False),
        sa.Column("seq", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "feed",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("key", _EXACT, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    for name in ("subject_facts", "patient_facts"):
        op.create_table(
            name,
            sa.Column("id", _EXACT, primary_key=True),
            sa.Column("version", _NUMBER, nullable=False),
            sa.Column("body", sa.LargeBinary, nullable=False),
            sqlite_strict=True,
        )
    op.create_table(
        "document",
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("patient", _EXACT, nullable=False),
        sa.Column("kind", _EXACT, primary_key=True),
        sqlite_strict=True,
    )
    op.create_index("document_by_patient", "document", ["patient"])
    meta = op.create_table(
        "meta",
        sa.Column("name", _EXACT, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(head, [{"id": 1, "epoch": secrets.token_hex(8), "seq": 0}])
    op.bulk_insert(meta, [{"name": "token_key", "value": secrets.token_bytes(32)}])
