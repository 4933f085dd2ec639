"""Object stores as DataFusion reads them: what a table's `FileIO` knows, told to the engine.

DataFusion picks a store by the scheme and host of a URL. Two tables may lie in one bucket and be read with different
credentials, as catalogs that vend them per table do. So the host is an alias: the bucket's own name for the first set
of properties, the bucket's name with a number for each further set.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from datafusion import SessionContext
from datafusion.object_store import AmazonS3
from pyiceberg.io import FileIO

from icefusion.errors import StorageError

__all__ = ["ObjectStores", "file_url"]

S3_SCHEMES = ("s3", "s3a", "s3n")
MAX_STORES = 64

_S3_OPTIONS = {
    "endpoint": ("s3.endpoint",),
    "access_key_id": ("s3.access-key-id", "client.access-key-id"),
    "secret_access_key": ("s3.secret-access-key", "client.secret-access-key"),
    "session_token": ("s3.session-token", "client.session-token"),
    "region": ("s3.region", "client.region"),
}

Options = tuple[tuple[str, str], ...]


class ObjectStores:
    """The object stores that one session context knows. Threads may share it."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._aliases: OrderedDict[tuple[str, Options], str] = OrderedDict()
        self._made = 0

    def url(self, location: str, io: FileIO) -> str:
        """The URL by which DataFusion reads a file, its store made known to the engine.

        Args:
            location: Where the file is, as the table's metadata has it.
            io: Reads the table's files; its properties say how the store is reached.

        Raises:
            StorageError: The location cannot be told to DataFusion, or its kind of store cannot be read.
        """
        url = file_url(location)
        scheme, _, rest = url.partition("://")
        if scheme == "file":
            return url
        if scheme not in S3_SCHEMES:
            raise StorageError(
                f"cannot read {location}: tables in {scheme}:// cannot be read yet",
                path=location,
                hint="local files and s3:// can be read",
            )
        bucket, _, key = rest.partition("/")
        return f"s3://{self._s3_alias(bucket, _s3_options(io.properties))}/{key}"

    def _s3_alias(self, bucket: str, options: Options) -> str:
        with self._lock:
            alias = self._aliases.get((bucket, options))
            if alias is None:
                alias = self._register_s3(bucket, options)
            self._aliases.move_to_end((bucket, options))
            return alias

    def _register_s3(self, bucket: str, options: Options) -> str:
        taken = set(self._aliases.values())
        alias = bucket
        while alias in taken:
            self._made += 1
            alias = f"{bucket}--{self._made}"
        given = dict(options)
        allow_http = urlsplit(given.get("endpoint", "")).scheme == "http"
        self._context.register_object_store("s3://", AmazonS3(bucket, allow_http=allow_http, **given), alias)
        self._aliases[bucket, options] = alias
        if len(self._aliases) > MAX_STORES:
            _, oldest = self._aliases.popitem(last=False)
            self._context.deregister_object_store("s3://", oldest)
        return alias


def file_url(location: str) -> str:
    """A file's location as the URL that DataFusion reads it by, every special character quoted.

    A raw ``%20`` in a path would open another file, and a raw ``*`` many.

    Raises:
        StorageError: The location cannot be told to DataFusion.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        scheme, rest = "file", location.removeprefix("file:")
    if scheme == "file":
        return "file://" + quote(str(Path(rest).absolute()))
    host, _, key = rest.partition("/")
    if "//" in key or not urlsplit(f"{scheme}://{host}/").netloc:
        raise StorageError(
            f"cannot read {location}", path=location, hint="object keys with an empty part (//) cannot be read"
        )
    return f"{scheme}://{host}/{quote(key)}"


def _s3_options(properties: Mapping[str, object]) -> Options:
    """What DataFusion's client is told; what is left out it takes from the environment, as PyIceberg's does."""
    found = {
        option: next((str(properties[key]) for key in keys if properties.get(key)), None)
        for option, keys in _S3_OPTIONS.items()
    }
    return tuple((option, value) for option, value in sorted(found.items()) if value is not None)
