"""The options that commands share: which catalog, and how much of the machine."""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click

from icefusion.errors import ConfigurationError
from icefusion.session import Session, connect

__all__ = ["DEBUG", "SessionArgs", "parse_pairs", "parse_value", "session_options", "set_up"]

DEBUG = "icefusion.debug"
"""Where the context keeps whether ``--debug`` was given."""

_WAREHOUSE, _CATALOG = "ICEFUSION_WAREHOUSE", "ICEFUSION_CATALOG"


@dataclass(frozen=True)
class SessionArgs:
    """What the command line says about the session."""

    warehouse: str | None
    catalog: str | None
    properties: tuple[str, ...]
    memory_limit: str | None
    threads: int | None

    def open(self) -> Session:
        """The session. The environment is asked only when the command line names no catalog.

        Raises:
            ConfigurationError: No catalog is named, or two are.
            CatalogError: It cannot be reached.
        """
        warehouse, catalog = self.warehouse, self.catalog
        properties = parse_pairs(self.properties, option="--property")
        if warehouse is None and catalog is None and not properties:
            warehouse, catalog = os.environ.get(_WAREHOUSE) or None, os.environ.get(_CATALOG) or None
        if warehouse is None and catalog is None and not properties:
            raise ConfigurationError(
                "no catalog was given",
                hint=f"--warehouse DIR for the embedded one (or {_WAREHOUSE}=DIR), --catalog NAME for one of "
                f"PyIceberg's configuration (or {_CATALOG}=NAME), or its properties: --property uri=...",
            )
        if warehouse is not None and properties:
            raise ConfigurationError(
                "--warehouse is the embedded catalog, which takes no --property",
                hint="for another catalog give its folder as --property warehouse=...",
            )
        return connect(
            warehouse,
            catalog=properties or None,
            name=catalog,
            memory_limit=self.memory_limit,
            threads=self.threads,
        )


def session_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a session; the command is given them as `SessionArgs`, its first argument."""

    @functools.wraps(command)
    def wrapped(debug: bool, **given: Any) -> Any:
        set_up(debug=debug)
        names = ("warehouse", "catalog", "properties", "memory_limit", "threads")
        return command(SessionArgs(**{name: given.pop(name) for name in names}), **given)

    options = (
        click.option("-w", "--warehouse", metavar="DIR", help=f"The embedded catalog in a folder [{_WAREHOUSE}]."),
        click.option("-c", "--catalog", metavar="NAME", help=f"A catalog of PyIceberg's configuration [{_CATALOG}]."),
        click.option("--property", "properties", metavar="KEY=VALUE", multiple=True, help="A property of the catalog."),
        click.option("--memory-limit", metavar="SIZE", help="Stay under it by spilling to disk, e.g. 2GiB."),
        click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Default: one a core."),
        click.option("--debug", is_flag=True, help="Show the trace of an error."),
    )
    decorated: Callable[..., Any] = wrapped
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def set_up(*, debug: bool) -> None:
    """Decide how much is said about trouble: with ``debug`` traces, without it one line each."""
    click.get_current_context().meta[DEBUG] = debug
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(debug))
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[handler])


class _Lines(logging.Formatter):
    def __init__(self, traces: bool) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s" if traces else "Warning: %(message)s")
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        if not self._traces:
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return super().format(record)


def parse_pairs(texts: Iterable[str], *, option: str) -> dict[str, str]:
    """``key=value`` texts as a mapping.

    Raises:
        ConfigurationError: One of them is something else, or a key comes twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigurationError(f"{option} {text}: expected KEY=VALUE")
        if key in pairs:
            raise ConfigurationError(f"{option} {key} is given twice")
        pairs[key] = value
    return pairs


def parse_value(text: str) -> Any:
    """The value of a parameter: a number, true, false, null or quoted text as in JSON, else the text itself."""
    try:
        value = json.loads(text, parse_constant=lambda constant: constant)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list)) else value
