"""Full records of delegations, representatives' powers, requests of authorities and break-glass sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "record",
        sa.Column("kind", _EXACT, primary_key=True),
        sa.Column("id", _EXACT, primary_key=True),
        sa.Column("patient", _EXACT, nullable=False),
        sa.Column("version", _NUMBER, nullable=False),
        sa.Column("status", _EXACT, nullable=False),
        sa.Column("org", _EXACT),
        sa.Column("created_at", _NUMBER, nullable=False),
        sa.Column("updated_at", _NUMBER, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("sealed_at", _NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("record_by_patient", "record", ["patient", "kind", "id"])
