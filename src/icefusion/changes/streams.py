"""Streams that a change of rows may have to read twice.

A stream that was passed by name can be read once. Where a join does not fit into the memory limit, the question is
asked again in another way; so with a limit such streams are set aside first, on disk beyond a share of it. The source
of a MERGE is set aside as a query's result in any case, and needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from icefusion.changes.context import ChangeContext
from icefusion.changes.spool import Spool
from icefusion.query.sources import Source
from icefusion.sql.statements import Change, Delete, Update, fragments_of

__all__ = ["with_streams_kept"]


@contextmanager
def with_streams_kept(change: Change, context: ChangeContext) -> Iterator[ChangeContext]:
    """The context of a change, with the streams that it names in a form that can be read again, if need be.

    Raises:
        StorageError: A temporary file could not be written.
        BaseException: Whatever a stream raised.
    """
    if context.engine.memory_limit_bytes is None or not isinstance(change, Delete | Update):
        yield context
        return
    named = {
        reference.name.parts[-1].text.lower()
        for fragment in fragments_of(change)
        for reference in fragment.tables
        if len(reference.name.parts) == 1
    }
    with ExitStack() as spools:
        kept: dict[str, Source] = {}
        for name, source in context.sources.items():
            if source.replayable or name.lower() not in named:
                kept[name] = source
                continue
            spool = Spool(source.schema, memory_limit_bytes=context.spool_bytes)
            spools.callback(spool.close)
            for batch in source.record_batches():
                spool.add(batch)
            kept[name] = spool.streamed(name)
        yield replace(context, sources=kept)
