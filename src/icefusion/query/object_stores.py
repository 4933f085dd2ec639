"""Object stores as DataFusion reads them: what a table's `FileIO` knows, told to the engine.

DataFusion picks a store by the scheme and host of a URL. Two tables may lie in one bucket and be read with different
credentials, as catalogs that vend them per table do. So the host is an alias: the bucket's own name for the first set
of options, the bucket's name with a number for each further set. Credentials that were renewed are a further set.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datafusion import SessionContext
from datafusion.object_store import AmazonS3, GoogleCloud, MicrosoftAzure
from pyiceberg.io import FileIO

from icefusion.bridge.file_access import access_to
from icefusion.bridge.locations import local_path
from icefusion.query.store_options import (
    Store,
    UnreachableError,
    file_url,
    find_store,
    object_key,
    split_location,
    split_sas,
)

__all__ = ["ObjectStores", "Place"]

MAX_STORES = 256
"""So many are kept. A query that has not begun to read yet looks its stores up, so old ones must not go too soon."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEMES = {"s3": "s3://", "azure": "abfs://", "gcs": "gs://"}


@dataclass(frozen=True)
class Place:
    """Where a file is for the engine.

    Attributes:
        url: The URL that DataFusion reads it by; None where it cannot.
        why_not: Why it cannot.
    """

    url: str | None
    why_not: str = ""


class ObjectStores:
    """The object stores that one session context knows. Threads may share it."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._aliases: OrderedDict[Store, str] = OrderedDict()
        self._made = 0

    def places(self, locations: Sequence[str], io: FileIO) -> list[Place]:
        """Where files are for the engine, their stores made known to it.

        Args:
            locations: Where the files are, as the table's metadata has it.
            io: Reads the table's files; its properties say how the stores are reached.
        """
        known: dict[tuple[int, str, str], str | UnreachableError] = {}
        return [self._place(location, io, known) for location in locations]

    def _place(self, location: str, io: FileIO, known: dict[tuple[int, str, str], str | UnreachableError]) -> Place:
        if _CONTROL.search(location):
            return Place(None, "the engine takes no control characters in names")
        local = local_path(location)
        if local is not None:
            return Place(file_url(local))
        io = access_to(io, location)
        scheme, host, _ = split_location(location)
        key = (id(io), scheme, host)  # files of one store differ in nothing but their keys
        if key not in known:
            try:
                known[key] = self._base(find_store(location, io))
            except UnreachableError as exc:
                known[key] = exc
        base = known[key]
        if isinstance(base, UnreachableError):
            return Place(None, str(base))
        try:
            return Place(f"{base}/{object_key(location)}")
        except UnreachableError as exc:
            return Place(None, str(exc))

    def _base(self, store: Store) -> str:
        with self._lock:
            alias = self._aliases.get(store)
            if alias is None:
                alias = self._register(store)
            self._aliases.move_to_end(store)
            return f"{_SCHEMES[store.kind]}{alias}"

    def _register(self, store: Store) -> str:
        taken = {alias for other, alias in self._aliases.items() if other.kind == store.kind}
        alias = store.bucket
        while alias in taken:
            self._made += 1
            alias = f"{store.bucket}--{self._made}"
        try:
            made = _BUILDERS[store.kind](store.bucket, dict(store.options))
            self._context.register_object_store(_SCHEMES[store.kind], made, alias)
        except BaseException as exc:  # it panics over options that make no sense
            if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
                raise
            raise UnreachableError("the engine's own client does not take the options of this store") from exc
        self._aliases[store] = alias
        if len(self._aliases) > MAX_STORES:
            oldest, old_alias = self._aliases.popitem(last=False)
            self._context.deregister_object_store(_SCHEMES[oldest.kind], old_alias)
        return alias


def _s3(bucket: str, options: dict[str, str]) -> AmazonS3:
    allow_http = options.pop("allow_http", None) is not None
    return AmazonS3(bucket, allow_http=allow_http, **options)


def _azure(container: str, options: dict[str, str]) -> MicrosoftAzure:
    given: dict[str, Any] = dict(options)
    emulator = given.pop("emulator", None) is not None
    sas = given.pop("sas", None)
    return MicrosoftAzure(
        container, sas_query_pairs=split_sas(sas) if sas else None, use_emulator=emulator, allow_http=emulator, **given
    )


def _gcs(bucket: str, options: dict[str, str]) -> GoogleCloud:
    return GoogleCloud(bucket, **options)


_BUILDERS: dict[str, Callable[[str, dict[str, str]], object]] = {"s3": _s3, "azure": _azure, "gcs": _gcs}
