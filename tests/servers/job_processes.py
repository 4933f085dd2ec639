"""Start jobs of `server_jobs` as processes, talk with them, and leave none behind."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from places import Place

SCRIPT = Path(__file__).with_name("server_jobs.py")


class Job:
    """One process at work. What it says is read by a thread, so that it never waits for its reader."""

    def __init__(self, place: Place, name: str, **options: Any) -> None:
        self.name = name
        command = [sys.executable, str(SCRIPT), name, place.to_json(), json.dumps(options)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._said.put(json.loads(line))
            except ValueError:  # the half line of one that was killed
                break
        self._said.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def wait_ready(self, *, seconds: float = 60) -> Job:
        """Wait until it has connected."""
        self.next(seconds=seconds)
        return self

    def go(self, first: int = 0) -> Job:
        """Let it begin, with this number where it counts."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{first}\n")
        self._process.stdin.flush()
        return self

    def next(self, *, seconds: float = 60) -> dict[str, Any]:
        """The next thing it says.

        Raises:
            RuntimeError: It ended instead.
            queue.Empty: It says nothing for too long.
        """
        said = self._said.get(timeout=seconds)
        if said is None:
            self._process.wait(10)
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {''.join(self._errors)[-3000:]}")
        return said

    def lines(self, *, seconds: float = 60) -> Iterator[dict[str, Any]]:
        """All that it says until it ends."""
        while (said := self._said.get(timeout=seconds)) is not None:
            yield said

    def result(self, *, seconds: float = 120) -> dict[str, Any]:
        """The next thing it says, once it has ended well."""
        said = self.next(seconds=seconds)
        if self._process.wait(20) != 0:
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {''.join(self._errors)[-3000:]}")
        return said

    def kill(self) -> None:
        """End it at once, as a power cut would, and free what it took."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


class Jobs:
    """The processes of one test: a context manager that ends those still at work."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def start(self, place: Place, name: str, **options: Any) -> Job:
        """Start a job; it connects and waits."""
        job = Job(place, name, **options)
        self._jobs.append(job)
        return job

    def begin(self) -> None:
        """Let all begin at the same time, once all are ready."""
        for job in self._jobs:
            job.wait_ready()
        for job in self._jobs:
            job.go()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self._jobs:
            job.kill()
