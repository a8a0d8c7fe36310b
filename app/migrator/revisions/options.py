"""What the settings say in the place of env.py, made into what Alembic takes: options of its Config and `configure`."""

import argparse
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from alembic.config import Config
from sqlalchemy import MetaData

from app.alembic_options import AlembicOptions
from app.errors import NotConfigured
from app.migrator.glance import folder
from app.redaction import redacted

VERSION_PLACE = ("version_table", "version_table_schema")
"""The options of Alembic's `configure`, and settings, that say where the version is kept."""


class _Named(list[MetaData]):
    """Several metadata, or one or none, with a naming convention beside that of each.

    Alembic takes a list for autogenerate, and for `op` the convention of whatever has one. To change the models' own
    metadata would change them for the application too.
    """

    def __init__(self, metadata: Sequence[MetaData], naming_convention: dict[str, str]) -> None:
        super().__init__(metadata)
        self.naming_convention = naming_convention


@dataclass(frozen=True, slots=True)
class Options:
    """What is set; what is None is left to env.py and to pyproject.toml."""

    version_locations: tuple[str, ...] | None = None
    recursive_version_locations: bool | None = None
    imports: tuple[str, ...] = ()
    target_metadata: tuple[str, ...] | None = None
    naming_convention: str | None = None
    """JSON, as the next but two."""
    render_as_batch: bool | None = None
    x: tuple[str, ...] | None = None
    upgrade_kwargs: str | None = None
    says_where_the_version_is: frozenset[str] = frozenset()
    """Which of `VERSION_PLACE` are set, and not only at their defaults."""

    @property
    def keywords(self) -> dict[str, Any]:
        """The keyword arguments for upgrade() and downgrade()."""
        return json.loads(self.upgrade_kwargs) if self.upgrade_kwargs else {}

    def write_into(self, config: Config) -> None:
        """Write what concerns all of Alembic into a Config, which otherwise says what pyproject.toml does."""
        if self.version_locations is not None:
            config.set_main_option("path_separator", "newline")
            places = "\n".join(str(folder(each)) for each in self.version_locations)
            config.set_main_option("version_locations", places.replace("%", "%%"))
        if self.recursive_version_locations is not None:
            config.set_main_option("recursive_version_locations", str(self.recursive_version_locations).lower())
        if self.x is not None:
            given = config.cmd_opts or argparse.Namespace()
            # What a terminal says comes later, and so wins, where somebody makes a dictionary of it.
            given.x = [*self.x, *(getattr(given, "x", None) or [])]
            config.cmd_opts = given

    def import_modules(self) -> None:
        """Import what is to be imported first, and what the models' metadata is in.

        Raises:
            NotConfigured: Something cannot be imported, or is not there.
        """
        for module in self.imports:
            _imported(module, "MIGRATION_IMPORTS")
        self._metadata()

    def configure(self, said: dict[str, Any], *, generates: bool) -> dict[str, Any]:
        """The options for Alembic's `configure` that are set.

        Args:
            said: What env.py says.
            generates: Alembic writes a revision, and must not take no metadata for that of no tables.
        """
        found: dict[str, Any] = {} if self.render_as_batch is None else {"render_as_batch": self.render_as_batch}
        metadata = self._metadata() if self.target_metadata else _several(said.get("target_metadata"))
        if self.naming_convention is not None and not (generates and not metadata):
            found["target_metadata"] = _Named(metadata, json.loads(self.naming_convention))
        elif self.target_metadata:
            found["target_metadata"] = metadata[0] if len(metadata) == 1 else metadata
        return found

    def _metadata(self) -> list[MetaData]:
        return [_object(each) for each in self.target_metadata or ()]


NOTHING = Options()
"""All as env.py and pyproject.toml have it."""


def of(settings: AlembicOptions) -> Options:
    """What the settings say."""
    return Options(
        version_locations=settings.version_locations,
        recursive_version_locations=settings.recursive_version_locations,
        imports=settings.imports or (),
        target_metadata=settings.target_metadata,
        naming_convention=settings.naming_convention,
        render_as_batch=settings.render_as_batch,
        x=settings.x,
        upgrade_kwargs=settings.upgrade_kwargs,
        says_where_the_version_is=frozenset(settings.model_fields_set & set(VERSION_PLACE)),
    )


def _several(metadata: MetaData | Sequence[MetaData] | None) -> list[MetaData]:
    if metadata is None:
        return []
    return [metadata] if isinstance(metadata, MetaData) else list(metadata)


def _object(path: str) -> MetaData:
    """The metadata at a path such as `shop.models:Base.metadata`."""
    variable = "MIGRATION_TARGET_METADATA"
    module, _, name = path.partition(":")
    try:
        found: object = reduce(getattr, name.split("."), _imported(module, variable))
    except AttributeError as error:
        raise NotConfigured(f"{variable} names `{path}`, and {error}.", variables=[variable]) from None
    if not isinstance(found, MetaData):
        raise NotConfigured(
            f"{variable} names `{path}`, which is no MetaData but {type(found).__name__}.", variables=[variable]
        )
    return found


def _imported(module: str, variable: str) -> object:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # somebody's code, which may raise anything
        raise NotConfigured(
            f"{variable} names `{module}`, which cannot be imported: {type(error).__name__}: {redacted(str(error))}",
            hint="Add its package to the deployment's dependencies, or its file to the project; then deploy again.",
            variables=[variable],
        ) from error
