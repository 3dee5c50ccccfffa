"""Examples of docstrings as a page shows them: at most 80 characters wide, the prompt included."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from typing import Any

WIDTH = 80  # what a page shows without scrolling
PROMPT = ">>> "


def wrap_code(source: str) -> str:
    """Break code at the width of a page; a comment at the end of its only line goes before it."""
    source = re.sub(r"\A(\S[^\n]*?)  (# [^\n]*)\n?\Z", r"\2\n\1\n", source)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={WIDTH - len(PROMPT)}", "-"]
    return subprocess.run(command, input=source, text=True, capture_output=True, check=True).stdout


def wrap_examples(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Break the statements of a docstring that are wider than a page."""
    examples = doctest.DocTestParser().get_examples("\n".join(lines))
    for example in reversed(examples):  # from the end, so that the line numbers before stay true
        first, n_lines = example.lineno, example.source.count("\n")
        if max(map(len, lines[first : first + n_lines])) <= WIDTH:
            continue
        wrapped = wrap_code(re.sub(r"\s*# doctest:.*", "", example.source)).splitlines()
        comment = [PROMPT + line for line in wrapped if line.startswith("#")]
        code = [line for line in wrapped if not line.startswith("#")]
        lines[first : first + n_lines] = [*comment, PROMPT + code[0], *("... " + line for line in code[1:])]
