"""How a damaged or crafted file is told of, for which Python has no common type of error."""

from __future__ import annotations


def say_reason(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has no text."""
    return next(iter(str(error).splitlines()), type(error).__name__)
