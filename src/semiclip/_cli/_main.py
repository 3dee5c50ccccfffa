"""The command ``semiclip``: its group of commands, and how mistakes are told."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from semiclip._cli._commands import COMMANDS
from semiclip._cli._origins import DATA, Located, choose_status
from semiclip.errors import SemiclipError, SemiclipWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INTERRUPTED = 130  # as shells count it


class DemoByDefault(click.Group):
    """Commands, of which the demonstration is the one that runs if none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``demo`` before options of its own."""
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "--version")):
            args = ["demo", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=DemoByDefault,
    commands=COMMANDS,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="semiclip", message="%(version)s")
def semiclip() -> None:
    """Distil microscopy into transcriptomic embeddings from weakly paired data.

    Without a command, the demonstration runs, with the options of `semiclip demo`. The other commands work on .h5ad and
    .h5mu files. Their settings are in a TOML file, which `semiclip init` writes; flags go before what the file says.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a mistake is one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _tell_warnings():
            return int(semiclip.main(arguments, prog_name="semiclip", standalone_mode=False) or 0)
    except click.Abort:
        return _tell("interrupted", INTERRUPTED)
    except Located as error:
        return _tell(error.format_message(), choose_status(error.error))
    except click.ClickException as error:
        return _tell(error.format_message(), error.exit_code)
    except SemiclipError as error:
        return _tell(str(error), choose_status(error))
    except OSError as error:
        return _tell(str(error), DATA)


def _tell(message: str, status: int) -> int:
    """Print in one line what is wrong, and return the exit status."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


@contextmanager
def _tell_warnings() -> Iterator[None]:
    """Show warnings of the package without a line of code, which is not the user's."""
    plain = warnings.formatwarning

    def format_warning(message: Any, category: type[Warning], *place: Any) -> str:
        return f"warning: {message}\n" if issubclass(category, SemiclipWarning) else plain(message, category, *place)

    with warnings.catch_warnings():
        # what lightning 2.6 remarks about a newer torch helps nobody here
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
        warnings.formatwarning = format_warning  # type: ignore[assignment]  # places have names of their own
        try:
            yield
        finally:
            warnings.formatwarning = plain
