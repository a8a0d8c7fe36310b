"""Give every product a slug.

ADD COLUMN locks the table against reads and writes until its transaction ends, so a backfill in the same
transaction stops the shop for as long as it takes. Here the column is committed first and each batch
commits by itself. A run that is cut short has recorded no revision: it starts again, hence IF NOT EXISTS,
and goes on with the products that have no slug yet. The function that makes the slug is a copy that stays
as it is: what is imported from the application changes, and with it the meaning of an old revision.
"""

import re
import unicodedata

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

BATCH_SIZE = 500
LONGEST_NAME = 80

# Only the columns that are needed, as they are at this revision; the driver takes its types from here.
products = sa.table(
    "products",
    sa.column("id", sa.BigInteger()),
    sa.column("name", sa.Text()),
    sa.column("slug", sa.Text()),
)


def slug_of(product_id: int, name: str) -> str:
    """Turn product 7, "Crème brûlée", into creme-brulee-7; the id at the end makes the slug unique."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))[:LONGEST_NAME].rstrip("-")
    return f"{words}-{product_id}" if words else str(product_id)


def backfill(bind: sa.Connection) -> None:
    last_id = 0
    while True:
        rows = bind.execute(
            sa.select(products.c.id, products.c.name)
            .where(products.c.id > last_id, products.c.slug.is_(None))
            .order_by(products.c.id)
            .limit(BATCH_SIZE)
        ).all()
        if not rows:
            return
        last_id = rows[-1].id
        batch = sa.values(sa.column("id", sa.BigInteger()), sa.column("slug", sa.Text()), name="batch").data(
            [(row.id, slug_of(row.id, row.name)) for row in rows]
        )
        # Asks for NULL again: a slug that the application wrote since the SELECT is the better one.
        unwritten = sa.and_(products.c.id == batch.c.id, products.c.slug.is_(None))
        bind.execute(sa.update(products).where(unwritten).values(slug=batch.c.slug))


def upgrade() -> None:
    op.add_column("products", sa.Column("slug", sa.Text(), nullable=True), if_not_exists=True)
    # Entering the block commits the column and frees the table.
    with op.get_context().autocommit_block():
        backfill(op.get_bind())


def downgrade() -> None:
    op.drop_column("products", "slug")
