"""Numbers as text."""

import math
import re
from collections.abc import Sequence

NONE = "–"  # where there is no value


def share(value: float) -> str:
    """Write a share in percent."""
    return NONE if math.isnan(value) else f"{100 * value:.1f}%"


def interval(low: float, high: float) -> str:
    """Write the ends of an interval of shares."""
    return NONE if math.isnan(low) else f"{100 * low:.1f}% to {100 * high:.1f}%"


def p_value(value: float) -> str:
    """Write a probability with two significant digits."""
    return NONE if math.isnan(value) else f"{value:#.2g}"


def decimals(value: float, digits: int) -> str:
    """Write a number with so many decimals."""
    # adding 0 makes no number of minus zero
    return NONE if math.isnan(value) else f"{round(value, digits) + 0:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float, noun: str = "", plural: str = "") -> str:
    """Write a count, with the noun that it counts."""
    number = f"{value:,}"
    return f"{number} {noun if value == 1 else plural or noun + 's'}" if noun else number


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def file_name(name: str) -> str:
    """Write a name as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name)
