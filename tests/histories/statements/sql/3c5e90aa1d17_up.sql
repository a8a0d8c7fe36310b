-- Reports. Run as a whole; psql would take it as it is.
CREATE OR REPLACE FUNCTION slug(value text) RETURNS text
LANGUAGE sql IMMUTABLE
AS $body$
    SELECT trim(BOTH '-' FROM regexp_replace(lower(value), '[^a-z0-9]+', '-', 'g'));
$body$;

CREATE OR REPLACE FUNCTION open_total(who integer) RETURNS numeric
LANGUAGE plpgsql STABLE
AS $_$
DECLARE
    answer numeric := 0;
BEGIN
    EXECUTE $sql$ SELECT coalesce(sum(total), 0) FROM purchase WHERE customer_id = $1 AND state = 'open'; $sql$
        INTO answer USING who;
    RETURN answer;
END;
$_$;

CREATE VIEW purchase_report AS
    SELECT c.id, slug(c.name) AS slug, open_total(c.id) AS open, count(p.id)::int AS purchases
    FROM customer c LEFT JOIN purchase p ON p.customer_id = c.id
    GROUP BY c.id
    ORDER BY c.id;

COMMENT ON VIEW purchase_report IS 'who owes what; see "the wiki"';
COMMENT ON COLUMN purchase_report.open IS E'in euros\n(not in cents)';

DO $do$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ('customer', 'purchase') LOOP
        EXECUTE 'ALTER TABLE ' || quote_ident(t.tablename) || ' ADD COLUMN archived boolean NOT NULL DEFAULT false';
    END LOOP;
END
$do$;
