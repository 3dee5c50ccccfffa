"""What went into the page and how it was made, so that it can be made again."""

import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from semiclip._report._parts import Table, count
from semiclip._report._request import THRESHOLDS, Request, Results
from semiclip.errors import some

PACKAGES = ["semiclip", "anndata", "numpy", "pandas", "scipy", "scikit-learn", "scvi-tools", "torch", "matplotlib"]
LONGEST = 200  # letters of a value


def describe_data(request: Request, results: Results) -> dict[str, Any]:
    """Count what went in."""
    adata, design = request.adata, request.design
    is_control = design.controls(adata)
    n_rows = design.perturbations(adata)[~is_control].value_counts()
    n_rows = n_rows[n_rows > 0]  # categories without a row
    codes, batches = design.batches(adata)
    n_controls = np.bincount(codes[is_control], minlength=len(batches))
    union = results.recall[results.recall["key"] == "union"].iloc[0]
    of_rows = f"{count(n_rows.max(), 'observation')} each"
    if n_rows.min() < n_rows.max():
        of_rows = f"{n_rows.min():,} to {of_rows} (median {n_rows.median():g})"
    in_batches = f"{len(batches):,}" if design.batch_key is not None else "none named; all observations are one batch"
    controls = "none; all observations are the reference of the correction"
    if is_control.any():
        controls = f"at least {n_controls.min():,}, median {np.median(n_controls):g}"
    facts = [
        ("Observations", f"{adata.n_obs:,}, of which {is_control.sum():,} controls"),
        ("Perturbations", f"{len(n_rows):,}, with {of_rows}"),
        ("Batches", in_batches),
        ("Controls per batch", controls),
        ("Perturbations with an annotated pair", f"{union['n_annotated']:,} of {union['n_genes']:,}"),
        ("Annotated pairs", f"{union['n_pairs']:,} with both genes in the map, each counted once"),
    ]
    ranks = results.main.drop_duplicates("representation").set_index("representation")["rank"]
    columns = [
        ("Representation", request.names),
        ("Dimensions", [count((adata.X if name == "X" else adata.obsm[name]).shape[1]) for name in request.names]),
        ("Kept by the correction", [count(ranks[name]) for name in request.names]),
    ]
    return {"facts": facts, "table": Table("Representations", columns)}


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
    recorded = list(_read_recorded(request.adata.uns.get("semiclip")))
    columns = zip(("Result", "Parameter", "Value"), zip(*recorded, strict=True), strict=False)
    table = Table("Parameters that adata.uns['semiclip'] records", columns, 3) if recorded else None
    return {"parameters": parameters, "versions": versions, "recorded": table}


def _read_recorded(entries: Any) -> Iterator[tuple[str, str, str]]:
    """List the parameters of each result that earlier steps left in the data."""
    for key, entry in entries.items() if isinstance(entries, Mapping) else ():
        params = entry.get("params") if isinstance(entry, Mapping) else None
        for name, value in _flatten(params) if isinstance(params, Mapping) else ():
            yield str(key), name, _write(value)


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
