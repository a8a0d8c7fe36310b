"""Require a slug of every product.

VALIDATE CONSTRAINT reads the whole table, but lets reads and writes go on. It is a revision of its own,
because in the transaction of 0006 it would read under the exclusive lock that ADD CONSTRAINT took. SET NOT
NULL finds the validated check (PostgreSQL 12 and later) and skips its own scan; the check is then
superfluous. If a product has no slug, nothing changes: the error names the check, and once the product
has a slug the revision can run again.
"""

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.execute("ALTER TABLE products VALIDATE CONSTRAINT ck_products_slug_not_null")
    op.alter_column("products", "slug", nullable=False)
    op.drop_constraint("ck_products_slug_not_null", "products", type_="check")


def downgrade() -> None:
    # PostgreSQL has no way back from VALIDATE: the check returns as 0006 made it, which needs no scan.
    op.create_check_constraint(
        "ck_products_slug_not_null",
        "products",
        "slug IS NOT NULL",
        postgresql_not_valid=True,
    )
    op.alter_column("products", "slug", nullable=True)
