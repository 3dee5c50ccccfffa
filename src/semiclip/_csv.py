"""Tables as CSV that a spreadsheet shows and does not compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the beginning of a formula


def format_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV, with an apostrophe before text that a spreadsheet would compute; numbers stay as they are.

    Examples
    --------
    >>> import pandas as pd
    >>> print(format_csv(pd.DataFrame({"gene": ["=1+1", "TP53", "-2"], "z": [-1.5, 0, 1]})), end="")
    gene,z
    '=1+1,-1.5
    TP53,0.0
    -2,1.0
    """
    text = [dtype.kind not in "iufcb" for dtype in table.dtypes]
    columns = [
        table.iloc[:, i].astype(object).map(_disarm) if is_text else table.iloc[:, i] for i, is_text in enumerate(text)
    ]
    safe = table.iloc[:, :0].assign(**{str(i): column for i, column in enumerate(columns)})
    return str(safe.to_csv(index=False, header=[_disarm(name) for name in table], lineterminator="\n"))


def _disarm(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
