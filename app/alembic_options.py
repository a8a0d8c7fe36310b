"""What the settings say in the place of env.py, each under the name of the Alembic option that it stands for.

Beside them what revisions expect of their session, which an env.py would have set on its connection.
"""

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

_PARAMETER = re.compile(r"[a-z_][\w$]*(?:\.[a-z_][\w$]*)*", re.IGNORECASE | re.ASCII)
"""A name of a setting, with its extension's before it."""
_IMPORT = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_OURS = {
    "lock_timeout": "set MIGRATION_LOCK_TIMEOUT instead",
    "idle_in_transaction_session_timeout": "it is one MIGRATION_LEASE, by which a frozen function is told",
    "client_connection_check_interval": "it is one second, by which a killed function is told",
    "application_name": "it tells whose the session is",
    "search_path": "set MIGRATION_SEARCH_PATH instead",
    "role": "set MIGRATION_ROLE instead",
    "session_authorization": "set MIGRATION_ROLE instead",
}
"""What no session setting may change, since runs stand on it, and what to do instead."""


def _parts(value: object) -> object:
    """A comma-separated list, as a variable of the environment has it."""
    return [part for each in value.split(",") if (part := each.strip())] if isinstance(value, str) else value


def _each_is_a_module(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for each in value or ():
        if not _IMPORT.fullmatch(each):
            raise ValueError("name modules as an import does, such as `alembic_utils, shop.operations`")
    return value


def _each_is_an_import_path(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for each in value or ():
        module, _, name = each.partition(":")
        if not (_IMPORT.fullmatch(module) and _IMPORT.fullmatch(name)):
            raise ValueError("name each as module and object, such as `shop.models:Base.metadata`")
    return value


def _loaded(text: str) -> Any:  # noqa: ANN401 – whatever JSON can say
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("it must be JSON") from None  # the parser's own words would quote it


def _is_an_object(text: str | None) -> str | None:
    if text is not None and not isinstance(_loaded(text), dict):
        raise ValueError("it must be a JSON object")
    return text


def _is_a_convention(text: str | None) -> str | None:
    if text is not None and not all(isinstance(name, str) for name in _loaded(text).values()):
        raise ValueError('it must give each kind of constraint a text, such as {"uq": "uq_%(table_name)s"}')
    return text


def _are_keywords(text: str | None) -> str | None:
    if text is not None and not all(name.isidentifier() for name in _loaded(text)):
        raise ValueError("its names must be such as an argument may have in Python")
    return text


def _are_session_settings(text: str | None) -> str | None:
    for name, value in _loaded(text).items() if text is not None else ():
        if not _PARAMETER.fullmatch(name) or not isinstance(value, str | int | float):
            raise ValueError('it must be a setting of PostgreSQL each, such as {"work_mem": "64MB"}')
        if why := _OURS.get(name.lower()):
            raise ValueError(f"{name.lower()} cannot be set by it: {why}")
    return text


_SPLIT = (NoDecode, BeforeValidator(_parts))


class AlembicOptions(BaseSettings):
    """The settings that stand for what an env.py says; what is not set stays as env.py and pyproject.toml have it."""

    script_location: str = Field("migrations", description="Alembic's script location.")
    version_table: str = Field(
        "alembic_version", min_length=1, max_length=63, description="Alembic's version table (`version_table`)."
    )
    version_table_schema: str | None = Field(
        None, max_length=63, description="Its schema (`version_table_schema`); else that of the role's search path."
    )
    version_locations: Annotated[tuple[str, ...] | None, *_SPLIT] = Field(
        None,
        description="The folders of the revisions (`version_locations`), comma-separated; else `versions` in the "
        "script location.",
    )
    recursive_version_locations: bool | None = Field(
        None, description="Revisions may lie in folders within these (`recursive_version_locations`)."
    )
    imports: Annotated[tuple[str, ...] | None, *_SPLIT, AfterValidator(_each_is_a_module)] = Field(
        None,
        description="Modules to import before the revisions, such as those that register operations; "
        "comma-separated (the `import` statements of env.py).",
    )
    target_metadata: Annotated[tuple[str, ...] | None, *_SPLIT, AfterValidator(_each_is_an_import_path)] = Field(
        None,
        description="Where the models' metadata is, such as `shop.models:Base.metadata`; several comma-separated "
        "(`target_metadata`).",
    )
    naming_convention: Annotated[str | None, AfterValidator(_is_an_object), AfterValidator(_is_a_convention)] = Field(
        None,
        description="A JSON object: how constraints are named that have no name (`naming_convention` of the target "
        "metadata).",
    )
    render_as_batch: bool | None = Field(
        None, description="Autogenerate writes `batch_alter_table` (`render_as_batch`)."
    )
    x: Annotated[tuple[str, ...] | None, *_SPLIT] = Field(
        None, description="What `alembic -x` would say (`context.get_x_argument`), comma-separated: `tenant=acme,dry`."
    )
    upgrade_kwargs: Annotated[str | None, AfterValidator(_is_an_object), AfterValidator(_are_keywords)] = Field(
        None,
        description="A JSON object: keyword arguments for `upgrade()` and `downgrade()` (those of "
        "`context.run_migrations`).",
    )
    search_path: str | None = Field(
        None, description="The search path of the revisions (`SET search_path`), such as `shop, public`."
    )
    role: str | None = Field(
        None, max_length=63, description="The role that the revisions are run as (`SET ROLE`); the login's else."
    )
    session_settings: Annotated[str | None, AfterValidator(_is_an_object), AfterValidator(_are_session_settings)] = (
        Field(None, description='A JSON object: other settings of PostgreSQL, such as `{"work_mem": "64MB"}` (`SET`).')
    )
