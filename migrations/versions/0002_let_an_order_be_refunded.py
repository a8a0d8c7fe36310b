"""Let an order be refunded.

PostgreSQL refuses a new enum value in the transaction that added it ("unsafe use of new value"). This
revision therefore adds the value and does nothing else: it commits on its own, and any later revision may
use 'refunded' in a default, an index, a check or an UPDATE. An enum value cannot be removed, so the downgrade
replaces the type; an order that is refunded by then becomes cancelled, the nearest status that the older
code knows, and the next upgrade does not bring the difference back. The downgrade rewrites the table under
an exclusive lock.
"""

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.execute("ALTER TYPE order_status ADD VALUE IF NOT EXISTS 'refunded'")


def downgrade() -> None:
    op.execute("ALTER TYPE order_status RENAME TO order_status_with_refunded")
    op.execute("CREATE TYPE order_status AS ENUM ('pending', 'paid', 'shipped', 'cancelled')")
    # The default is of the old type, and PostgreSQL has no cast from there: it goes first and returns last.
    op.execute("ALTER TABLE orders ALTER COLUMN status DROP DEFAULT")
    op.execute(
        """
        ALTER TABLE orders ALTER COLUMN status TYPE order_status
        USING (CASE status::text WHEN 'refunded' THEN 'cancelled' ELSE status::text END)::order_status
        """
    )
    op.execute("ALTER TABLE orders ALTER COLUMN status SET DEFAULT 'pending'")
    op.execute("DROP TYPE order_status_with_refunded")
