"""The command group, and the one boundary where failures become messages and exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from llamacpp_pipeline import __version__
from llamacpp_pipeline.errors import PipelineError

EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

# verb -> module of this package that holds a click command of that name; loaded when it is used.
VERBS = {
    "run": "run",
    "plan": "run",
    "build": "toolchain",
    "patches": "toolchain",
    "doctor": "toolchain",
    "results": "results",
    "sensitivity": "sensitivity",
    "explain": "sensitivity",
    "curve": "sensitivity",
    "card": "results",
    "push": "push",
    "reproduce": "reproduce",
    "compare": "compare",
    "imatrix": "imatrix",
    "cache": "cache",
    "init": "config",
    "schema": "config",
}


class LazyGroup(click.Group):
    """Imports a verb's module only when the verb is used: `run` must start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module = import_module(f"llamacpp_pipeline.cli.{VERBS[cmd_name]}")
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            message = f"{module.__name__}.{cmd_name} is not a command"
            raise TypeError(message)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llamacpp-pipeline")
def cli() -> None:
    """Make measured, quantized GGUF files of a model, and the card to publish them with."""


def guarded(arguments: Sequence[str]) -> int:
    """Run the command line; every failure ends here as a message on stderr and an exit code."""
    try:
        status = cli.main(list(arguments), prog_name="llamacpp-pipeline", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: finished steps are kept", err=True)
        return EXIT_INTERRUPTED
    except PipelineError as error:
        click.echo(f"error: {error.report()}", err=True)
        return error.exit_code
    except BrokenPipeError:
        return 1
    except Exception:  # noqa: BLE001  the boundary: whatever arrives here is our bug
        return bug_report()
    return status if isinstance(status, int) else 0


def bug_report() -> int:
    """Show a traceback with what an issue needs: versions and the command."""
    click.echo(traceback.format_exc(), err=True)
    click.echo(
        f"this is a bug in llamacpp-pipeline {__version__} (Python {sys.version.split()[0]}, "
        f"{sys.platform}); please report it with the lines above and the command:\n"
        f"    llamacpp-pipeline {' '.join(Path(a).name if '/' in a else a for a in sys.argv[1:])}",
        err=True,
    )
    return EXIT_BUG


def main() -> None:
    """Entry point of the console script."""
    sys.exit(guarded(sys.argv[1:]))
