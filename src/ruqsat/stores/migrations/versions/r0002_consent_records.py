"""Full records of consents, their personal fields sealed; and what was answered under idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "consent_record",
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("patient", _EXACT, nullable=False),
        sa.Column("version", _NUMBER, nullable=False),
        sa.Column("status", _EXACT, nullable=False),
        sa.Column("effect", _EXACT, nullable=False),
        sa.Column("thread", _EXACT, nullable=False),
        sa.Column("org", _EXACT),
        sa.Column("owner_tag", sa.LargeBinary),
        sa.Column("created_at", _NUMBER, nullable=False),
        sa.Column("updated_at", _NUMBER, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("sealed_at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("consent_record_by_patient", "consent_record", ["patient", "id"])
    op.create_index("consent_record_by_owner", "consent_record", ["owner_tag"])
    op.create_table(
        "idempotency",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("idempotency_by_age", "idempotency", ["at"])
