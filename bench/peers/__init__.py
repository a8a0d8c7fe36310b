"""The tools that are measured beside this project, each run in its usual way."""

from bench.peers.alembic_cli import AlembicCli
from bench.peers.peer import Peer
from bench.peers.psql import Psql

PEERS: list[Peer] = [AlembicCli("asyncpg"), AlembicCli("psycopg"), Psql()]
