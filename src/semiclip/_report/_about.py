"""How the page was made, so that it can be made again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from semiclip._checks import some
from semiclip._report._findings import THRESHOLDS
from semiclip._report._parts import Facts, Heading, Link, Section, Table, Text

if TYPE_CHECKING:
    from datetime import datetime

    from semiclip._report._findings import Asked
    from semiclip._report._parts import Columns, Part

PACKAGES = ["semiclip", "anndata", "numpy", "pandas", "scipy", "scikit-learn", "scvi-tools", "torch", "matplotlib"]
LONGEST = 200  # letters of a value
PAPER = (
    "Bendidi I., El Mesbahi Y., Denton A. K., Suri K., Kenyon-Dean K., Genovesio A., Noutahi E. A Cross Modal "
    "Knowledge Distillation & Data Augmentation Recipe for Improving Transcriptomics Representations through "
    "Morphological Features. Proceedings of the 42nd International Conference on Machine Learning, PMLR 267, 2025."
)
DOI = "10.48550/arXiv.2505.21317"


def method(asked: Asked, made: datetime) -> Section:
    """Say what was computed, with which arguments and versions."""
    how = asked.how
    correction = (
        "Each representation was taken as it is, without a correction."
        if how["method"] is None
        else f"Each representation was corrected (method {how['method']}, profile {how['profile']}), fitted on "
        + ("the controls." if how["control"] is not None else "all observations, since there are no controls.")
    )
    parts: list[Part] = [
        Text(
            f"{correction} The controls were left out and the observations of each perturbation averaged. The cosines "
            "of all pairs of perturbations are the distribution in whose tails the annotated pairs are looked for; a "
            "pair counts once, in whichever order databases list it, and pairs of a gene with itself do not count."
        ),
        Link(f"If you use these results, please cite the paper whose method this is: {PAPER} DOI", DOI, f"https://doi.org/{DOI}"),
        Heading("Parameters"),
        Facts(_parameters(asked)),
        Heading("Versions"),
        Facts([
            ("Made", made.strftime("%Y-%m-%d %H:%M UTC")),
            ("Python", f"{platform.python_version()} on {platform.system()} ({platform.machine()})"),
            *((name, version(name)) for name in PACKAGES),
        ]),
    ]  # fmt: skip
    recorded = _recorded(asked.adata.uns.get("semiclip"))
    if recorded:
        titles = ("Result", "Parameter", "Value")
        columns: Columns = list(zip(titles, zip(*recorded, strict=True), strict=True))
        parts += [
            Heading("How the data were made"),
            Table("Parameters that adata.uns['semiclip'] records", columns, 3),
        ]
    return Section("method", "Method, parameters and versions", parts)


def _parameters(asked: Asked) -> list[tuple[str, str]]:
    how = asked.how
    plain = ["perturbation_key", "control", "batch_key", "method", "profile", "ridge", "fallback"]
    return [
        ("use_rep", ", ".join(asked.names)),
        ("base", asked.base),
        *((name, _written(how[name])) for name in plain),
        *asked.sources.items(),
        ("thresholds", ", ".join(f"({low:g}, {high:g})" for low, high in THRESHOLDS)),
        ("n_permutations", f"{asked.n_permutations:,} exchanges of the gene labels"),
        ("rng", str(asked.seed)),
    ]


def _recorded(entries: Any) -> list[tuple[str, str, str]]:
    """List the parameters of each result that earlier steps left in the data."""
    rows: list[tuple[str, str, str]] = []
    for key, entry in entries.items() if isinstance(entries, Mapping) else ():
        params = entry.get("params") if isinstance(entry, Mapping) else None
        if isinstance(params, Mapping):
            rows += [(str(key), name, text) for name, text in _flat(params)]
    return rows


def _flat(params: Mapping[Any, Any], before: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in params.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((f"{before}{name}", _written(value)))
    return rows


def _written(value: Any) -> str:
    """Write a value in a line."""
    if hasattr(value, "tolist"):  # an array, into which a file turns a list
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return some(value, 10) or "none"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
