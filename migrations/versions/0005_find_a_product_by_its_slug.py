"""Find a product by its slug.

CREATE INDEX blocks every write to the table until it is done; CONCURRENTLY does not, but refuses to run
inside a transaction, hence the autocommit block. A build that fails or is cancelled leaves an invalid
index of the same name behind, which IF NOT EXISTS would take for the real one. So an invalid one is dropped
first, and a valid one stays: when only the answer was lost, the next run need not build it again.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

INDEX = "uq_products_slug"

invalid_index = sa.text(
    "SELECT indexrelid FROM pg_index WHERE indexrelid = to_regclass(:index) AND NOT indisvalid"
).bindparams(sa.bindparam("index", INDEX, sa.Text()))


def upgrade() -> None:
    # Written for a plan (offline), there is no database to ask.
    is_offline = op.get_context().as_sql
    with op.get_context().autocommit_block():
        if not is_offline and op.get_bind().scalar(invalid_index) is not None:
            op.drop_index(INDEX, "products", postgresql_concurrently=True)
        op.create_index(
            INDEX,
            "products",
            ["slug"],
            unique=True,
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, "products", postgresql_concurrently=True, if_exists=True)
