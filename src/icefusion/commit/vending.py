"""Credentials that a REST catalog vends with a table: which file is read with which, and until when.

A server may give credentials in two places of its answer: in ``config``, for all files of the table, and in
``storage-credentials``, for those below a prefix; of several that fit the longest prefix wins, and all of them win over
``config``, which wins over the properties of the client. (Iceberg's REST specification, ``LoadTableResult``.) PyIceberg
picks one set for the whole table, by the place of its metadata file; data may lie elsewhere, and a table that is only
about to be created has no such file yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyiceberg.catalog.rest.scan_planning import StorageCredential
from pyiceberg.io import FileIO

from icefusion.bridge.file_access import Access, VendedFileIO

__all__ = ["expires_s", "vended_io"]

_ENDS = ("s3.session-token-expires-at-ms", "gcs.oauth2.token-expires-at", "expiration-time", "expires-at-ms")
_ENDS_BY_ACCOUNT = "adls.sas-token-expires-at-ms"

LoadFileIO = Callable[[Mapping[str, str]], FileIO]


def expires_s(properties: Mapping[str, object]) -> float | None:
    """When the first of some credentials ends, in seconds since 1970; None when nothing is said of it."""
    found = []
    for key, value in properties.items():
        if key in _ENDS or key.startswith(_ENDS_BY_ACCOUNT):
            try:
                found.append(int(str(value)) / 1000)
            except ValueError:
                continue  # not a moment in milliseconds
    return min(found, default=None)


def vended_io(
    what: str,
    location: str,
    config: Mapping[str, str],
    credentials: Sequence[StorageCredential],
    load: LoadFileIO,
    renew: Callable[[], FileIO] | None,
) -> FileIO:
    """Access to the files of a table by what was vended with it.

    Args:
        what: The table's name, for messages.
        location: Where the table lies.
        config: Its own properties and the server's configuration for it.
        credentials: Those for prefixes.
        load: Makes file access from such properties, completed from the catalog's.
        renew: Asks for the table's file access anew; None for a table that does not exist yet.
    """
    scoped = [
        Access(one.prefix, load({**config, **one.config}), expires_s({**config, **one.config})) for one in credentials
    ]
    fitting = [one for one in scoped if location.startswith(one.prefix)]
    best = max(fitting, key=lambda one: len(one.prefix), default=None)
    usual = Access("", load(config), expires_s(config)) if best is None else Access("", best.io, best.expires_s)
    sets = [usual, *(one for one in scoped if one.prefix)]
    # Where nothing ends and nothing differs, the plain file access is as good.
    if all(one.expires_s is None for one in sets) and (len(scoped) <= 1 and len(fitting) == len(scoped)):
        return usual.io
    return VendedFileIO(what, sets, None if renew is None else lambda: _sets_of(renew()))


def _sets_of(io: FileIO) -> Sequence[Access]:
    return io.sets if isinstance(io, VendedFileIO) else [Access("", io)]
