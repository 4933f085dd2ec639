"""The command ``icefusion`` and what its exit codes mean.

An error of ours is one readable message on standard error, with its hint. Exit codes: 0 done; 1 it failed while it
ran; 2 it was refused before it ran (usage, SQL, configuration); 3 the outcome of a commit is unknown; 130 interrupted;
141 whoever read the output stopped reading.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Any

import click
from rich.text import Text

from icefusion import __version__
from icefusion.cli.demo import demo
from icefusion.cli.load import load
from icefusion.cli.render import make_console
from icefusion.cli.sql import sql
from icefusion.errors import CommitStateUnknownError, ConfigurationError, IcefusionError, SQLError

__all__ = ["commands", "exit_code", "main"]

FAILED, REFUSED, UNKNOWN, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141


def exit_code(error: BaseException) -> int:
    """The exit code that an error ends the program with."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case CommitStateUnknownError():
            return UNKNOWN
        case SQLError() | ConfigurationError():
            return REFUSED
    return FAILED


class _Commands(click.Group):
    """A group whose commands answer errors with a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _drop_output()
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        except (Exception, KeyboardInterrupt) as exc:  # this is the border to the terminal
            if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
                _drop_output()
                raise click.exceptions.Exit(PIPE_CLOSED) from None
            _show(exc, debug=_wants_debug(ctx))
            raise click.exceptions.Exit(exit_code(exc)) from None


def _wants_debug(ctx: click.Context) -> bool:
    return bool(ctx.find_root().meta.get("icefusion.debug"))


def _show(error: BaseException, *, debug: bool) -> None:
    console = make_console(stderr=True)
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        console.print("Interrupted; what was not committed is rolled back", style="yellow")
        return
    if isinstance(error, (IcefusionError, OSError)):
        message, _, hint = str(error).rpartition("\nHint: ") if "\nHint: " in str(error) else (str(error), "", "")
    else:
        message = f"internal error: {type(error).__name__}: {error}"
        hint = "" if debug else "run it again with --debug and report what it shows"
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("Hint: ", "bold cyan"), hint), soft_wrap=True)


def _drop_output() -> None:
    """Nobody reads any more: what is left in buffers must not fail again when the interpreter ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command explains itself: icefusion COMMAND --help.",
)
@click.version_option(__version__, message="icefusion %(version)s")
def commands() -> None:
    """Transactional SQL for Apache Iceberg, without a JVM."""


commands.add_command(sql)
commands.add_command(load)
commands.add_command(demo)


def main() -> None:
    """Run the command line and end the process."""
    try:
        commands()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        # Threads of the engine may still be in the middle of something that they cannot finish while the interpreter
        # is taken down around them; that would end in a crash. What had to be rolled back is rolled back by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
