"""The border to catalogs, databases, HTTP and file systems: their errors become ours, naming what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests
from pyiceberg import exceptions as foreign
from sqlalchemy.exc import SQLAlchemyError

from icefusion.errors import (
    CatalogError,
    IcefusionError,
    NamespaceExistsError,
    NamespaceNotEmptyError,
    NamespaceNotFoundError,
    TableExistsError,
    TableNotFoundError,
)

__all__ = ["translate", "translated"]

_TRANSLATIONS: tuple[tuple[type[Exception], type[CatalogError], str], ...] = (
    (foreign.NoSuchNamespaceError, NamespaceNotFoundError, "does not exist"),
    (foreign.NoSuchIcebergTableError, TableNotFoundError, "is not an Iceberg table"),
    (foreign.NoSuchTableError, TableNotFoundError, "does not exist"),
    (foreign.TableAlreadyExistsError, TableExistsError, "exists already"),
    (foreign.NamespaceAlreadyExistsError, NamespaceExistsError, "exists already"),
    (foreign.NamespaceNotEmptyError, NamespaceNotEmptyError, "is not empty"),
)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the errors of catalogs, databases and HTTP into ours, naming what was asked for."""
    try:
        yield
    except IcefusionError:
        raise
    except Exception as exc:
        raise translate(exc, what) from exc


def translate(exc: Exception, what: str) -> IcefusionError:
    """The error of ours that stands for one of a catalog, a database, an HTTP client or a file system."""
    for theirs, ours, words in _TRANSLATIONS:
        if isinstance(exc, theirs):
            return ours(f"{what} {words}")
    text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    error = CatalogError(f"{what}: the catalog failed with {type(exc).__name__}: {text}")
    error.retryable = isinstance(exc, (SQLAlchemyError, requests.RequestException, foreign.RESTError, OSError))
    return error
