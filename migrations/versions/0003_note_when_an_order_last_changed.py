"""Note when an order last changed.

These are several statements in one string, with a function body that has semicolons of its own. A tool that
splits SQL at semicolons cuts the body in two, and one that prepares each statement refuses the second. The
whole string belongs to the server: write it as in psql, quote the body with dollars and pass no parameters
(a word after a single colon would be taken for one).
"""

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.execute(
        """
        -- now() is evaluated once and stored beside the table: no rewrite, however many orders there are.
        ALTER TABLE orders ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

        CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $touch$
        BEGIN
            -- A write that changes nothing isn't a change; the time stays.
            IF NEW IS DISTINCT FROM OLD THEN
                NEW.updated_at := now();
            END IF;
            RETURN NEW;
        END;
        $touch$;

        CREATE TRIGGER orders_touch_updated_at BEFORE UPDATE ON orders
        FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TRIGGER orders_touch_updated_at ON orders;
        DROP FUNCTION touch_updated_at();
        ALTER TABLE orders DROP COLUMN updated_at;
        """
    )
