"""Orders by the account's own id."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index."""
    op.execute(
        "CREATE INDEX orders_client_order_id ON orders (account, client_order_id, seq) WHERE client_order_id IS NOT NULL"
    )
