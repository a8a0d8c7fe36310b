"""What the integrations of Neon, Supabase and Prisma Postgres put into the environment, and what becomes of it."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from app import settings
from app.database import url
from app.errors import NotConfigured
from app.settings import DATABASE_VARIABLES, Settings
from tests.conftest import WriteHistory, client_of
from tests.servers import API_KEY, APPLY, READ, READ_KEY, Database

PASSWORD = "npg_Sesame0pen"
KEY = "eyJhbGciOiJub25lIn0.U2VzYW1l"
"""As Prisma's API keys look; this one opens nothing."""

NEON_POOLED = f"postgres://neondb_owner:{PASSWORD}@ep-icy-breeze-a1b2c3d4-pooler.c-2.eu-central-1.aws.neon.tech/neondb"
NEON_DIRECT = f"postgresql://neondb_owner:{PASSWORD}@ep-icy-breeze-a1b2c3d4.c-2.eu-central-1.aws.neon.tech/neondb"
NEON = {
    "DATABASE_URL": f"{NEON_POOLED}?sslmode=require&channel_binding=require",
    "DATABASE_URL_UNPOOLED": f"{NEON_DIRECT}?sslmode=require",
    "PGHOST": "ep-icy-breeze-a1b2c3d4-pooler.c-2.eu-central-1.aws.neon.tech",
    "PGHOST_UNPOOLED": "ep-icy-breeze-a1b2c3d4.c-2.eu-central-1.aws.neon.tech",
    "PGUSER": "neondb_owner",
    "PGDATABASE": "neondb",
    "PGPASSWORD": PASSWORD,
    "POSTGRES_URL": f"{NEON_POOLED}?channel_binding=require&sslmode=require",
    "POSTGRES_URL_NON_POOLING": f"{NEON_DIRECT}?channel_binding=require&sslmode=require",
    "POSTGRES_USER": "neondb_owner",
    "POSTGRES_HOST": "ep-icy-breeze-a1b2c3d4-pooler.c-2.eu-central-1.aws.neon.tech",
    "POSTGRES_PASSWORD": PASSWORD,
    "POSTGRES_DATABASE": "neondb",
    "POSTGRES_URL_NO_SSL": NEON_POOLED,
    "POSTGRES_PRISMA_URL": f"{NEON_POOLED}?pgbouncer=true&connect_timeout=15&sslmode=require",
    "NEON_PROJECT_ID": "icy-breeze-12345678",
}
SUPAVISOR = f"postgres://postgres.abcdefghijklmnopqrst:{PASSWORD}@aws-0-eu-central-1.pooler.supabase.com"
SUPABASE = {
    "POSTGRES_URL": f"{SUPAVISOR}:6543/postgres?sslmode=require&supa=base-pooler.x",
    "POSTGRES_URL_NON_POOLING": f"{SUPAVISOR}:5432/postgres?sslmode=require",
    "POSTGRES_PRISMA_URL": f"{SUPAVISOR}:6543/postgres?sslmode=require&pgbouncer=true",
    "POSTGRES_USER": "postgres",
    "POSTGRES_HOST": "db.abcdefghijklmnopqrst.supabase.co",
    "POSTGRES_PASSWORD": PASSWORD,
    "POSTGRES_DATABASE": "postgres",
    "SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co",
    "SUPABASE_JWT_SECRET": PASSWORD,
}
PRISMA_DIRECT = f"postgres://0a1b2c3d4e5f:sk_{PASSWORD}@db.prisma.io:5432/postgres?sslmode=require"
PRISMA_POOLED = PRISMA_DIRECT.replace("@db.", "@pooled.db.")
PRISMA_ONLY = f"prisma+postgres://accelerate.prisma-data.net/?api_key={KEY}"
PRISMA = {
    "DATABASE_URL": PRISMA_DIRECT,
    "POSTGRES_URL": PRISMA_DIRECT,
    "PRISMA_DATABASE_URL": PRISMA_DIRECT,
    "DATABASE_URL_POOLED": PRISMA_POOLED,
}
PRISMA_BEFORE = {
    "DATABASE_URL": PRISMA_DIRECT.replace("/postgres?", "/?"),
    "POSTGRES_URL": PRISMA_DIRECT.replace("/postgres?", "/?"),
    "PRISMA_DATABASE_URL": PRISMA_ONLY,
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], Settings]:
    """Read the settings from an environment."""

    def from_environment(environment: Mapping[str, str]) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        found = settings.from_environment()
        assert isinstance(found, Settings), found
        return found

    return from_environment


Read = Callable[[Mapping[str, str]], Settings]


def without(environment: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


def prefixed(environment: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {f"{prefix}_{name}": value for name, value in environment.items()}


def arguments(
    host: str, port: int | None, user: str, password: str, name: str | None, **changes: Any
) -> dict[str, Any]:
    """What asyncpg is to get; nothing of the strings' other parameters, which it would refuse."""
    return {
        "host": host,
        "port": port,
        "user": user,
        "password": password,
        "database": name,
        "ssl": "require",
        "timeout": 10,
        "target_session_attrs": "any",
    } | changes


AT_NEON = ("neondb_owner", PASSWORD, "neondb")
AT_SUPABASE = ("postgres.abcdefghijklmnopqrst", PASSWORD, "postgres")
AT_PRISMA = ("0a1b2c3d4e5f", f"sk_{PASSWORD}", "postgres")
NEON_HOST, SUPABASE_HOST = NEON["PGHOST_UNPOOLED"], "aws-0-eu-central-1.pooler.supabase.com"


@pytest.mark.parametrize(
    ("environment", "variable", "expected"),
    [
        (NEON, "DATABASE_URL_UNPOOLED", arguments(NEON_HOST, None, *AT_NEON)),
        (without(NEON, "DATABASE_URL_UNPOOLED"), "POSTGRES_URL_NON_POOLING", arguments(NEON_HOST, None, *AT_NEON)),
        (
            {"DATABASE_URL": NEON["DATABASE_URL"], "PGHOST": NEON_HOST, "PGPASSWORD": "another", "PGUSER": "another"},
            "DATABASE_URL",
            arguments(NEON["PGHOST"], None, *AT_NEON),
        ),
        (
            {"MIGRATION_DATABASE_URL": NEON["POSTGRES_PRISMA_URL"], **NEON},
            "MIGRATION_DATABASE_URL",
            arguments(NEON["PGHOST"], None, *AT_NEON, timeout=15),
        ),
        (
            {"POSTGRES_URL": NEON["POSTGRES_URL_NO_SSL"]},  # a remote host without an sslmode
            "POSTGRES_URL",
            arguments(NEON["PGHOST"], None, *AT_NEON),
        ),
        (SUPABASE, "POSTGRES_URL_NON_POOLING", arguments(SUPABASE_HOST, 5432, *AT_SUPABASE)),
        (
            without(SUPABASE, "POSTGRES_URL_NON_POOLING"),
            "POSTGRES_URL",
            arguments(SUPABASE_HOST, 6543, *AT_SUPABASE),
        ),
        (
            {"MIGRATION_DATABASE_URL": SUPABASE["POSTGRES_PRISMA_URL"]},
            "MIGRATION_DATABASE_URL",
            arguments(SUPABASE_HOST, 6543, *AT_SUPABASE),
        ),
        (PRISMA, "DATABASE_URL", arguments("db.prisma.io", 5432, *AT_PRISMA)),
        (PRISMA_BEFORE, "DATABASE_URL", arguments("db.prisma.io", 5432, *AT_PRISMA[:2], None)),
        (
            {"DATABASE_URL_POOLED": PRISMA_POOLED},
            "DATABASE_URL_POOLED",
            arguments("pooled.db.prisma.io", 5432, *AT_PRISMA),
        ),
        (
            {"DATABASE_URL": "", **prefixed(NEON, "STORAGE"), "MIGRATION_DATABASE_URL": NEON["DATABASE_URL_UNPOOLED"]},
            "MIGRATION_DATABASE_URL",
            arguments(NEON_HOST, None, *AT_NEON),
        ),
    ],
)
def test_what_an_integration_sets_leads_to_its_database(
    read: Read, environment: dict[str, str], variable: str, expected: dict[str, Any]
) -> None:
    found = url.database(read(environment))
    assert found.variable == variable
    assert found.arguments == expected
    assert PASSWORD not in repr(found)


@pytest.mark.parametrize("environment", [NEON, SUPABASE, PRISMA, PRISMA_BEFORE])
def test_of_all_that_an_integration_sets_nothing_pooled_is_taken(read: Read, environment: dict[str, str]) -> None:
    assert url.database(read(environment)).pooled is None


@pytest.mark.parametrize(
    ("text", "whose", "better"),
    [
        (NEON["DATABASE_URL"], "Neon", "DATABASE_URL_UNPOOLED"),
        (NEON["POSTGRES_PRISMA_URL"], "Neon", "the host without `-pooler`"),
        (SUPABASE["POSTGRES_URL"], "Supabase", "POSTGRES_URL_NON_POOLING"),
        (SUPABASE["POSTGRES_PRISMA_URL"], "Supabase", "port 5432"),
        (PRISMA_POOLED, "Prisma", "db.prisma.io, which the integration sets as DATABASE_URL"),
        ("postgres://me@bouncer.example:6432/shop?pgbouncer=true", "pgbouncer=true", "DATABASE_URL_UNPOOLED"),
        ("postgres://me@a.example,b.example:6543/shop", "Supabase", "POSTGRES_URL_NON_POOLING"),
    ],
)
def test_a_pooled_connection_string_tells_whose_it_is_and_which_is_better(
    read: Read, text: str, whose: str, better: str
) -> None:
    pooled = url.database(read({"DATABASE_URL": text})).pooled
    assert pooled is not None
    assert whose in pooled.told_by
    assert better in pooled.better


@pytest.mark.parametrize(
    "text",
    [
        "postgres://me@pooler.example/shop",
        "postgres://me:-pooler.@db.example/6543",
        "postgres://pooled.db.prisma.io@db.example/shop",
        "postgres://me@db.example:16543/shop?pgbouncer=false",
    ],
)
def test_a_connection_string_that_only_resembles_a_pooled_one_does_not(read: Read, text: str) -> None:
    assert url.database(read({"DATABASE_URL": text})).pooled is None


def refusal(configuration: Settings) -> NotConfigured:
    """Why there is no database, which quotes no secret."""
    with pytest.raises(NotConfigured) as refused:
        url.database(configuration)
    problem = refused.value
    told = f"{problem.document()} {problem!r} {''.join(traceback.format_exception(problem))}"
    assert not any(secret in told for secret in (PASSWORD, KEY, "neon.tech", "supabase.com:", "api_key"))
    return problem


@pytest.mark.parametrize("text", [PRISMA_ONLY, PRISMA_ONLY.replace("+postgres", ""), f" {PRISMA_ONLY.upper()}\n"])
@pytest.mark.parametrize("name", DATABASE_VARIABLES)
def test_a_url_for_prismas_client_alone_is_refused_by_its_variable(read: Read, name: str, text: str) -> None:
    problem = refusal(read({name: text}))
    assert problem.members["variables"] == [name]
    assert name in problem.detail
    assert "db.prisma.io" in problem.hint
    assert problem.hint.startswith("Set MIGRATION_DATABASE_URL to the direct connection string")


@pytest.mark.parametrize(
    ("others", "best"),
    [
        ({"POSTGRES_URL": PRISMA_DIRECT, "DATABASE_URL_POOLED": PRISMA_POOLED}, "POSTGRES_URL"),
        ({"DATABASE_URL_POOLED": PRISMA_POOLED}, "DATABASE_URL_POOLED"),
        ({"SHOP_DATABASE_URL": PRISMA_DIRECT, "SHOP_POSTGRES_URL": PRISMA_DIRECT}, "SHOP_DATABASE_URL"),
    ],
)
def test_beside_a_url_for_prismas_client_the_variable_with_the_right_one_is_named(
    read: Read, others: dict[str, str], best: str
) -> None:
    problem = refusal(read({"DATABASE_URL": PRISMA_ONLY, **others}))
    assert problem.members["variables"] == ["DATABASE_URL"]
    assert problem.hint == f"Set MIGRATION_DATABASE_URL to the value of {best}, then deploy again."


@pytest.mark.parametrize(
    ("environment", "named", "best"),
    [
        (
            prefixed(NEON, "STORAGE"),
            [
                "STORAGE_DATABASE_URL_UNPOOLED",
                "STORAGE_POSTGRES_URL_NON_POOLING",
                "STORAGE_DATABASE_URL",
                "STORAGE_POSTGRES_URL",
            ],
            "STORAGE_DATABASE_URL_UNPOOLED",
        ),
        (
            prefixed(SUPABASE, "SHOP_DB"),
            ["SHOP_DB_POSTGRES_URL_NON_POOLING", "SHOP_DB_POSTGRES_URL"],
            "SHOP_DB_POSTGRES_URL_NON_POOLING",
        ),
        (
            prefixed(PRISMA_BEFORE, "A") | {"B_DATABASE_URL": PRISMA_DIRECT},
            ["A_DATABASE_URL", "B_DATABASE_URL", "A_POSTGRES_URL"],
            "A_DATABASE_URL or B_DATABASE_URL",
        ),
    ],
)
def test_variables_with_a_prefix_are_named_and_the_best_of_them_is_recommended(
    read: Read, environment: dict[str, str], named: list[str], best: str
) -> None:
    problem = refusal(read(environment))
    assert problem.members["variables"] == ["MIGRATION_DATABASE_URL"]
    assert problem.detail.endswith(f"There is one under other names: {', '.join(named)}.")
    assert problem.hint == f"Set MIGRATION_DATABASE_URL to the value of {best}, then deploy again."


def test_variables_that_only_resemble_a_prefixed_one_are_not_named(read: Read) -> None:
    problem = refusal(
        read(
            {
                "STORAGE_DATABASE_URL": "mysql://me@db.example/shop",
                "STORAGE_POSTGRES_URL": "",
                "MYDATABASE_URL": PRISMA_DIRECT,
                "STORAGE_DATABASE_URL_OLD": PRISMA_DIRECT,
                "STORAGE_POSTGRES_HOST": "db.example",
            }
        )
    )
    assert "other names" not in problem.detail
    assert problem.hint == NotConfigured.hint


# --- the warning, through a real pooler


KEYS = {"MIGRATION_API_KEY": API_KEY, "MIGRATION_READ_KEY": READ_KEY}
CREATE_A = "op.execute('CREATE TABLE a (id int)')"


async def warnings(configuration: Settings) -> list[list[str]]:
    """Those of a run, of a call that finds nothing to do, and of GET /status."""
    async with client_of(configuration) as client:
        answers = [
            await client.post("/migrate", headers=APPLY),
            await client.post("/migrate", headers=APPLY),
            await client.get("/status", headers=READ),
        ]
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    assert [answer.json().get("outcome") for answer in answers] == ["upgraded", "up_to_date", None]
    return [answer.json()["warnings"] for answer in answers]


@pytest.mark.parametrize("variable", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
async def test_a_pooled_connection_string_is_used_with_one_warning_that_names_its_variable_and_a_better_one(
    read: Read,
    write_history: WriteHistory,
    through_pgbouncer: Callable[..., Database],
    variable: str,
) -> None:
    on = through_pgbouncer("transaction")
    history = {"MIGRATION_SCRIPT_LOCATION": str(write_history(a1=CREATE_A))}
    told = await warnings(read({variable: f"{on.url}?pgbouncer=true", **KEYS, **history}))
    for (warning,) in told:
        assert warning.startswith(f"{variable} leads to a transaction pooler (it says `pgbouncer=true`). Runs are safe")
        assert "Better set MIGRATION_DATABASE_URL to the direct (unpooled) connection string, often" in warning
        assert on.url not in warning


async def test_the_pooler_itself_is_believed_rather_than_the_connection_string(
    read: Read, write_history: WriteHistory, database: Database, through_pgbouncer: Callable[..., Database]
) -> None:
    on = through_pgbouncer("session")
    history = {"MIGRATION_SCRIPT_LOCATION": str(write_history(a1=CREATE_A))}
    run, _, status = await warnings(read({"DATABASE_URL": f"{on.url}?pgbouncer=true", **KEYS, **history}))
    for (warning,) in (run, status):
        assert warning.startswith("DATABASE_URL leads to a session pooler. Runs are safe")

    database.execute("DROP TABLE a, alembic_version")
    separator = "&" if "?" in database.url else "?"
    told = await warnings(read({"DATABASE_URL": f"{database.url}{separator}pgbouncer=true", **KEYS, **history}))
    assert told == [[], [], []]
