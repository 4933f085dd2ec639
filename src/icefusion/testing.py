"""Fakes for tests: a clock that never waits, a catalog that fails by script, storage that fails at any step.

They are part of the product: whoever builds on icefusion can test his own handling of conflicts and lost replies with
them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import Identifier

__all__ = ["FakeClock", "FaultyIO", "IOStep", "ScriptedCatalog", "Step"]

Step = Literal["ok", "conflict", "rejected", "lost_reply", "unreachable"]
IOStep = Literal["open", "create", "close", "closed", "delete", "deleted"]


class FakeClock:
    """Time that moves only when somebody sleeps, and chance from a seed.

    Attributes:
        slept_s: Every wait, in seconds, in order.
    """

    def __init__(self, *, seed: int = 0, start_ms: int = 1_700_000_000_000) -> None:
        self.slept_s: list[float] = []
        self._elapsed_s = 0.0
        self._start_ms = start_ms
        self._random = random.Random(seed)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._start_ms + int(self._elapsed_s * 1000)

    def monotonic_s(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_s

    def sleep_s(self, seconds: float) -> None:
        """Move time on, without waiting."""
        self.slept_s.append(seconds)
        self._elapsed_s += seconds

    def random(self) -> float:
        """The next number of the seeded sequence."""
        return self._random.random()


class ScriptedCatalog(Catalog):
    """A catalog that passes everything on to another one, except that its commits follow a script.

    Each commit takes the next step; once the script is used up all commits are passed on.

    - ``"ok"``: passed on.
    - ``"conflict"``: nothing lands, the answer is that somebody else was faster.
    - ``"rejected"``: nothing lands, the answer is that the request makes no sense.
    - ``"lost_reply"``: the commit lands, and the connection breaks before the answer comes.
    - ``"unreachable"``: nothing lands, and the connection breaks.

    Attributes:
        before_commit: Called before each commit, e.g. to let another writer commit first.
        before_load: Called before each look at a table, e.g. to raise an error for as long as the catalog is away.
        after_commit: Called after each commit that landed, before the answer is given.
        commits: How many commits were asked for.
    """

    def __init__(
        self,
        inner: Catalog,
        script: Sequence[Step] = (),
        *,
        before_commit: Callable[[], None] | None = None,
        after_commit: Callable[[], None] | None = None,
        before_load: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(inner.name, **inner.properties)
        self._inner = inner
        self._script = list(script)
        self.before_commit = before_commit
        self.after_commit = after_commit
        self.before_load = before_load
        self.commits = 0

    def load_table(self, identifier: str | Identifier) -> Table:
        """Look at a table."""
        if self.before_load is not None:
            self.before_load()
        return self._inner.load_table(identifier)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Do what the script says."""
        self.commits += 1
        if self.before_commit is not None:
            self.before_commit()
        step = self._script.pop(0) if self._script else "ok"
        if step == "conflict":
            raise CommitFailedException("scripted: somebody else was faster")
        if step == "rejected":
            raise BadRequestError("scripted: the request makes no sense")
        if step == "unreachable":
            raise ConnectionError("scripted: the connection broke before the request arrived")
        response = self._inner.commit_table(table, requirements, updates)
        if self.after_commit is not None:
            self.after_commit()
        if step == "lost_reply":
            raise ConnectionError("scripted: the connection broke before the reply arrived")
        return response


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: ScriptedCatalog, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._inner, name)(*args, **kwargs)

    method.__name__ = name
    return method


# Whatever else PyIceberg asks of a catalog, now or in a later release, goes to the inner one.
for _name in Catalog.__abstractmethods__ - {"commit_table", "load_table"}:
    setattr(ScriptedCatalog, _name, _passed_on(_name))
ScriptedCatalog.__abstractmethods__ = frozenset()


class FaultyIO(FileIO):
    """Storage that passes everything on to another one, and tells a hook of each step; what the hook raises, it raises.

    The steps are told with the file's location:

    - ``"open"``: before a file is opened for reading.
    - ``"create"``: before a file is created.
    - ``"close"``: before a written file is closed, when part of it may lie in storage already.
    - ``"closed"``: after a file was closed, whole; raising here is an answer that was lost.
    - ``"delete"``: before a file is deleted.
    - ``"deleted"``: after it was deleted.

    Args:
        inner: Where the files really are.
        hook: Told of each step.
    """

    def __init__(self, inner: FileIO, hook: Callable[[IOStep, str], None]) -> None:
        super().__init__(inner.properties)
        self._inner = inner
        self._hook = hook

    @classmethod
    def install(cls, catalog: Catalog, hook: Callable[[IOStep, str], None]) -> None:
        """Have the tables that a catalog opens from now on use such storage."""
        load = catalog._load_file_io  # PyIceberg offers no public way to give a catalog its storage

        def faulty(*args: Any, **kwargs: Any) -> FileIO:
            return cls(load(*args, **kwargs), hook)

        catalog._load_file_io = faulty  # type: ignore[method-assign]

    def new_input(self, location: str) -> InputFile:
        """A file to read."""
        return _FaultyInput(self._inner.new_input(location), self._hook)

    def new_output(self, location: str) -> OutputFile:
        """A file to write."""
        return _FaultyOutput(self._inner.new_output(location), self._hook)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file."""
        path = location if isinstance(location, str) else location.location
        self._hook("delete", path)
        self._inner.delete(path)
        self._hook("deleted", path)


class _FaultyInput(InputFile):
    def __init__(self, inner: InputFile, hook: Callable[[IOStep, str], None]) -> None:
        super().__init__(inner.location)
        self._inner = inner
        self._hook = hook

    def __len__(self) -> int:
        return len(self._inner)

    def exists(self) -> bool:
        return self._inner.exists()

    def open(self, seekable: bool = True) -> InputStream:
        self._hook("open", self.location)
        return self._inner.open(seekable)


class _FaultyOutput(OutputFile):
    def __init__(self, inner: OutputFile, hook: Callable[[IOStep, str], None]) -> None:
        super().__init__(inner.location)
        self._inner = inner
        self._hook = hook

    def __len__(self) -> int:
        return len(self._inner)

    def exists(self) -> bool:
        return self._inner.exists()

    def to_input_file(self) -> InputFile:
        return _FaultyInput(self._inner.to_input_file(), self._hook)

    def create(self, overwrite: bool = False) -> OutputStream:
        self._hook("create", self.location)
        return _FaultyStream(self._inner.create(overwrite), self.location, self._hook)


class _FaultyStream(OutputStream):
    """A stream that tells of its end, once."""

    def __init__(self, inner: OutputStream, location: str, hook: Callable[[IOStep, str], None]) -> None:
        self._inner = inner
        self._location = location
        self._hook = hook
        self._ended = False

    @property
    def closed(self) -> bool:
        return self._ended

    def write(self, b: bytes) -> int:
        return self._inner.write(b)

    def tell(self) -> int:
        return self._inner.tell()

    def flush(self) -> None:
        flush: Callable[[], None] | None = getattr(self._inner, "flush", None)
        if flush is not None:
            flush()

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            self._hook("close", self._location)
        finally:
            self._inner.close()
        self._hook("closed", self._location)

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
