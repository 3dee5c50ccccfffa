"""The errors of reading a damaged or crafted file, for which Python has no common type."""

from __future__ import annotations

import lzma
import pickle
import struct
import tokenize
import zipfile
import zlib

DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def say_reason(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has no text."""
    return next(iter(str(error).splitlines()), type(error).__name__)
