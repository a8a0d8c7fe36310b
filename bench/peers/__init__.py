"""The tools that are measured beside this project, each run in its usual way."""

from bench.peers.alembic_cli import AlembicCli
from bench.peers.dbmate import Dbmate
from bench.peers.django import Django
from bench.peers.drizzle import Drizzle
from bench.peers.graphile_migrate import GraphileMigrate
from bench.peers.knex import Knex
from bench.peers.node_pg_migrate import NodePgMigrate
from bench.peers.peer import Peer
from bench.peers.psql import Psql
from bench.peers.yoyo_migrations import YoyoMigrations

FLOOR = Psql()
"""It does not know what was applied before, so it can only be asked for everything."""

TOOLS: list[Peer] = [
    AlembicCli("asyncpg"),
    AlembicCli("psycopg"),
    Django(),
    YoyoMigrations(),
    Dbmate(),
    Drizzle(),
    NodePgMigrate(),
    Knex(),
    GraphileMigrate(),
]

PEERS: list[Peer] = [*TOOLS, FLOOR]
