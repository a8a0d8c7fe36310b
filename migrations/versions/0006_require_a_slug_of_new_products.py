"""Require a slug of new products.

A plain ADD CONSTRAINT reads the whole table under an exclusive lock. NOT VALID leaves the rows that are
there unread, so the lock lasts a moment; every INSERT and UPDATE is checked from now on. That includes the
writes of the deployment that still serves: the code that writes slugs has to be live before this revision.
0007 checks the old rows.
"""

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_check_constraint(
        "ck_products_slug_not_null",
        "products",
        "slug IS NOT NULL",
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    op.drop_constraint("ck_products_slug_not_null", "products", type_="check")
