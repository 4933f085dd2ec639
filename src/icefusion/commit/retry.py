"""How often, how long and how patiently a commit is tried again."""

from __future__ import annotations

from icefusion.clock import Clock
from icefusion.config import RetryConfig

__all__ = ["Attempts"]


class Attempts:
    """Counts attempts and waits between them.

    Attributes:
        number: Attempts begun so far.
        last: Why the last one failed.
    """

    def __init__(self, retry: RetryConfig, clock: Clock) -> None:
        self._retry = retry
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self.number = 0
        self.last = ""

    def start(self) -> None:
        """Begin an attempt."""
        self.number += 1

    def elapsed_s(self) -> float:
        """Seconds since the first attempt began."""
        return self._clock.monotonic_s() - self._began_s

    def wait(self) -> bool:
        """Wait before the next attempt; False when there may be none."""
        if self.number >= self._retry.max_attempts:
            return False
        delay_s = self._retry.delay_ceiling_ms(self.number) / 1000
        if self._retry.jitter == "full":
            delay_s *= self._clock.random()
        if self.elapsed_s() + delay_s > self._retry.total_timeout_ms / 1000:
            return False
        self._clock.sleep_s(delay_s)
        return True
