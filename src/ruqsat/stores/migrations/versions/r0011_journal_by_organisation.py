"""The journal is looked through by organisation, newest first."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """List its entries by whose people and machines they tell of."""
    op.create_index("journal_entry_by_org", "journal_entry", ["org", "at"])
