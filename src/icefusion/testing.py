"""Fakes for tests: a clock that never waits, and a catalog that fails by script.

They are part of the product: whoever builds on icefusion can test his own handling of conflicts and lost replies with
them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate

__all__ = ["FakeClock", "ScriptedCatalog", "Step"]

Step = Literal["ok", "conflict", "rejected", "lost_reply", "unreachable"]


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
        commits: How many commits were asked for.
    """

    def __init__(
        self, inner: Catalog, script: Sequence[Step] = (), *, before_commit: Callable[[], None] | None = None
    ) -> None:
        super().__init__(inner.name, **inner.properties)
        self._inner = inner
        self._script = list(script)
        self.before_commit = before_commit
        self.commits = 0

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
        if step == "lost_reply":
            raise ConnectionError("scripted: the connection broke before the reply arrived")
        return response


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: ScriptedCatalog, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._inner, name)(*args, **kwargs)

    method.__name__ = name
    return method


# Whatever else PyIceberg asks of a catalog, now or in a later release, goes to the inner one.
for _name in Catalog.__abstractmethods__ - {"commit_table"}:
    setattr(ScriptedCatalog, _name, _passed_on(_name))
ScriptedCatalog.__abstractmethods__ = frozenset()
