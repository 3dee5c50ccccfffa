"""How the page was made, so that it can be made again."""

import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from semiclip._report._parts import Table
from semiclip._report._request import THRESHOLDS, Request
from semiclip.errors import some

PACKAGES = ["semiclip", "anndata", "numpy", "pandas", "scipy", "scikit-learn", "scvi-tools", "torch", "matplotlib"]
LONGEST = 200  # letters of a value


def describe_method(request: Request, made: datetime) -> dict[str, Any]:
    """Return the arguments and versions that the page was computed with."""
    parameters = [
        ("use_rep", ", ".join(request.names)),
        ("base", request.base),
        *((name, _write(value)) for name, value in request.parameters.items()),
        *request.sources.items(),
        ("thresholds", ", ".join(f"({low:g}, {high:g})" for low, high in THRESHOLDS)),
        ("n_permutations", f"{request.n_permutations:,} exchanges of the gene labels"),
        ("rng", str(request.seed)),
    ]
    versions = [
        ("Made", made.strftime("%Y-%m-%d %H:%M UTC")),
        ("Python", f"{platform.python_version()} on {platform.system()} ({platform.machine()})"),
        *((name, version(name)) for name in PACKAGES),
    ]
    recorded = _recorded(request.adata.uns.get("semiclip"))
    columns = list(zip(("Result", "Parameter", "Value"), zip(*recorded, strict=True), strict=False))
    table = Table("Parameters that adata.uns['semiclip'] records", columns, 3) if recorded else None
    return {"parameters": parameters, "versions": versions, "recorded": table}


def _recorded(entries: Any) -> list[tuple[str, str, str]]:
    """List the parameters of each result that earlier steps left in the data."""
    rows: list[tuple[str, str, str]] = []
    for key, entry in entries.items() if isinstance(entries, Mapping) else ():
        params = entry.get("params") if isinstance(entry, Mapping) else None
        if isinstance(params, Mapping):
            rows += [(str(key), name, _write(value)) for name, value in _flatten(params)]
    return rows


def _flatten(params: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _write(value: Any) -> str:
    """Write a value in a line."""
    if hasattr(value, "tolist"):  # an array, into which a file turns a list
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return some(value, 10) or "none"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
