"""Delete files that surely belong to nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pyiceberg.io import FileIO

__all__ = ["delete_files"]

logger = logging.getLogger("icefusion")


def delete_files(io: FileIO, paths: Iterable[str]) -> list[str]:
    """Delete files, and say which could not be deleted.

    A failure is logged and never raised: clean-up runs after something else went wrong (or right), and that is what the
    caller has to hear about. A file that is gone already counts as deleted. An interrupt waits until all is done.
    """
    paths = list(paths)
    interrupts: list[BaseException] = []

    def delete(path: str) -> str | None:
        try:
            io.delete(path)
        except FileNotFoundError:
            return None
        except Exception as exc:  # any store's own errors
            logger.warning("could not delete %s: %s", path, exc)
            return path
        except BaseException as exc:
            if interrupts:
                raise
            interrupts.append(exc)
            return delete(path)
        return None

    if len(paths) < 4:
        failed = [path for path in map(delete, paths) if path is not None]
    else:
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="icefusion-cleanup") as pool:
            failed = [path for path in pool.map(delete, paths) if path is not None]
    if interrupts:
        raise interrupts[0]
    return failed
