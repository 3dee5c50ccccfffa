"""The command line: settings from a TOML file and flags, given to the public functions, whose results go to files."""

from semiclip._cli._main import main

__all__ = ["main"]
