"""The border to catalogs, databases, HTTP and file systems: their errors become ours, naming what was asked for."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from pyiceberg import exceptions as foreign
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from icefusion.errors import (
    CatalogError,
    ConfigurationError,
    IcefusionError,
    NamespaceExistsError,
    NamespaceNotEmptyError,
    NamespaceNotFoundError,
    TableExistsError,
    TableNotFoundError,
)

__all__ = ["told", "translate", "translated"]

_TRANSLATIONS: tuple[tuple[type[Exception], type[CatalogError], str], ...] = (
    (foreign.NoSuchNamespaceError, NamespaceNotFoundError, "does not exist"),
    (foreign.NoSuchIcebergTableError, TableNotFoundError, "is not an Iceberg table"),
    (foreign.NoSuchTableError, TableNotFoundError, "does not exist"),
    (foreign.TableAlreadyExistsError, TableExistsError, "exists already"),
    (foreign.NamespaceAlreadyExistsError, NamespaceExistsError, "exists already"),
    (foreign.NamespaceNotEmptyError, NamespaceNotEmptyError, "is not empty"),
)

_NO_DATABASE = re.compile(r"connection failed|[Cc]an't connect|could not connect|unable to open")
_ONE_LEVEL = "hierarchical namespaces are not supported"
_NOT_A_CATALOG = "Received unexpected JSON Payload"
_ANSWERS = (foreign.RESTError, foreign.BadRequestError, foreign.ForbiddenError)
_LOGIN_REFUSED = (foreign.OAuthError, foreign.UnauthorizedError, foreign.AuthorizationExpiredError)


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
    if isinstance(exc, _LOGIN_REFUSED):
        return CatalogError(
            f"{what}: the catalog refused the login: {text}",
            hint="check credential or token, scope and oauth2-server-uri; a token may have expired",
        )
    if type(exc) in _ANSWERS and _NOT_A_CATALOG in text:
        return CatalogError(
            f"{what}: what answers is not an Iceberg REST catalog: {text}",
            hint="is the uri that of the catalog itself?",
        )
    if isinstance(exc, foreign.ForbiddenError):
        return CatalogError(f"{what}: the catalog does not allow it: {text}", hint="ask whoever runs it for the right")
    if isinstance(exc, ValueError) and _ONE_LEVEL in text:
        return CatalogError(
            f"{what}: SQL catalogs keep tables in namespaces of one level only",
            hint="name it namespace.table, or use a REST catalog, which may have more levels",
        )
    if type(exc).__name__ == "ValidationError":  # PyIceberg's own, or one of the models that its metadata are
        hint = "it may be damaged, of another format, or of a format version that is not known yet"
        return CatalogError(f"{what}: its metadata cannot be read: {told(exc)}", hint=hint)
    if isinstance(exc, ImportError | foreign.NotInstalledError):
        return ConfigurationError(f"{what}: a package is missing: {text}", hint="pip install it")
    if isinstance(exc, requests.Timeout | requests.ConnectionError):
        error = CatalogError(f"{what}: {_unreachable(exc)}", hint="is the server up, and the uri right?")
    elif isinstance(exc, OperationalError) and _NO_DATABASE.search(text):
        error = CatalogError(f"{what}: {text}", hint="is the database up, and the uri right?")
    else:
        error = CatalogError(f"{what}: the catalog failed with {type(exc).__name__}: {text}")
    error.retryable = isinstance(exc, (SQLAlchemyError, requests.RequestException, foreign.RESTError, OSError))
    return error


def told(exc: Exception) -> str:
    """What is wrong with metadata, in one line: the first of what its models say, if they say it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if len(lines) < 2 or "validation error" not in lines[0]:
        return " ".join(lines[:1]) or type(exc).__name__
    return ": ".join(line.partition(" [type=")[0] for line in lines[1:3] if not line.startswith("For further"))


def _unreachable(exc: requests.RequestException) -> str:
    parts = urlsplit(str(exc.request.url)) if exc.request is not None else None
    # A user and password may stand before the host.
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts is not None else "the server"
    if isinstance(exc, requests.Timeout):
        return f"{server} did not answer in time"
    reason = re.search(r"(?:\[Errno -?\d+\] )?([A-Z][\w ,]+)['\")]*$", str(exc))
    return f"{server} cannot be reached: {reason[1] if reason else str(exc)}"
