"""Figures 4 to 7: which pairs methods and modalities recall together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

import semiclip as scl
from semiclip._cli._paper import _published as published
from semiclip._cli._paper._grid import Cell, Grid
from semiclip._cli._paper._perform import NULL, NULL_SETS, SETS
from semiclip._cli._paper._plan import IMG, OURS, TX
from semiclip._cli._paper._section import Section
from semiclip._cli._paper._tables import list_sets, select_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._paper._store import Results
    from semiclip._cli._paper._tables import Wanted

THRESHOLDS = ("threshold_low", "threshold_high")
COLOURS, METHOD, PERMUTED = {TX: "#0072B2", IMG: "#009E73"}, "#E69F00", "#999999"
N_COLUMNS = 3  # thresholds that Figure 7 draws; all are in its file


def _read_sets(plan: Plan, results: Results) -> dict[str, pd.DataFrame]:
    """Return the sets of each method, by how it is called."""
    tables = {run: select_sets(results[run], SETS, plan.main) for run in list_sets(plan) if not results[run].failure}
    return {plan.methods[run.method].label: table for run, table in tables.items()}


def _list_members(table: pd.DataFrame, *names: str) -> list[str]:
    return [name for name in names if name in table]


def make_figure4(plan: Plan, results: Results) -> Section:
    """Return Venn diagrams of what each method and the modalities recall."""
    title = f"Relationships on {plan.main} that each method recalls, beside expression and images alone"
    sets = _read_sets(plan, results)
    parts = [
        scl.tl.overlap(table, representations=_list_members(table, label, TX, IMG))
        .rename(columns={label: "method_recalls"})
        .assign(method=label)
        for label, table in sets.items()
    ]
    if not parts:
        return Section("figure4", "Figure 4", title, missing="No method has a result.")
    n_columns = min(2, len(sets))
    n_rows = -(-len(sets) // n_columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for ax, (label, table) in zip(axes, sets.items(), strict=False):
            _draw_venn(ax, table, [label, TX, IMG])
        for empty in axes[len(sets) :]:
            empty.remove()

    note = "" if IMG in next(iter(sets.values())) else "This unseen set has no images, so the circles are of two sets."
    size = (5.8 * n_columns, 4.2 * n_rows)
    return Section("figure4", "Figure 4", title, pd.concat(parts, ignore_index=True), draw=draw, size=size, note=note)


def _draw_venn(ax: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """Draw the sets that a table has, or say that they are empty."""
    held = _list_members(table, *names)
    if not table[held].to_numpy().any():
        ax.set_axis_off()
        ax.text(0.5, 0.5, "nothing is recalled", ha="center")
        return
    colours = {name: COLOURS.get(name, PERMUTED if name.endswith("(permuted)") else METHOD) for name in held}
    scl.pl.venn(table[["gene_a", "gene_b", "databases", *held]], ax=ax, palette=colours)


def make_figure5(plan: Plan, results: Results) -> Section:
    """Return what each method gains, loses and keeps of what expression recalls, and of what images do."""
    title = f"Gains and losses of relationships on {plan.main}"
    parts = []
    for label, table in _read_sets(plan, results).items():
        for base in _list_members(table, TX, IMG):
            parts.append(scl.tl.gains_losses(table, base=base, representations=label))
    if not parts:
        return Section("figure5", "Figure 5", title, missing="No method has a result.")
    data = pd.concat(parts, ignore_index=True)
    kept = ["preserved", "gains", "losses", "total"]
    titles = ["Kept", "Gained", "Lost", "Total"]
    bases = [base for base in (TX, IMG) if (data["base"] == base).any()]
    held = data.set_index(["representation", "base"])
    rows = [
        (str(label), [Cell(f"{held.loc[(label, base), name]:,}") for base in bases for name in kept])
        for label in data["representation"].unique()
    ]
    caption = f"Annotated pairs of all databases, each counted once; seed {plan.seeds[0]}."
    groups = [(f"relative to {base}", len(kept)) for base in bases]
    grid = Grid(caption, groups, titles * len(bases), rows, "Method")
    quoted = None
    if plan.settings.unseen[plan.main].paper in published.SETS:
        quoted_rows = [(name, [Cell(str(value)) for value in values]) for name, values in published.FIGURE5.items()]
        quoted = Grid(f"Figure 5 of the paper, on HUVEC-KO: {published.SOURCE}.", [], titles, quoted_rows, "Method")
    shown = data[data["base"] == TX]

    def draw(figure: Figure) -> None:
        scl.pl.gains_losses(shown, ax=figure.subplots())

    size = (6.4, 1.8 + 0.5 * len(shown))
    return Section("figure5", "Figure 5", title, data, grid, draw=draw, size=size, published=quoted)


def list_null(plan: Plan) -> Wanted:
    """Return the run of Figures 6 and 7: Semi-Clipped without augmentation."""
    return {plan.null_run: {NULL_SETS, NULL}}


def _read_null(plan: Plan, results: Results, dataset: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Return the sets over thresholds, and how they overlap beside chance."""
    result = results[plan.null_run]
    if result.failure:
        return None
    overlap = result.tables[NULL]
    return select_sets(result, NULL_SETS, dataset), overlap[overlap["dataset"] == dataset].drop(columns="dataset")


def _name_ours(plan: Plan) -> tuple[str, str]:
    """Return how Semi-Clipped is called, and after an exchange of labels."""
    label = plan.methods[OURS].label
    return label, f"{label} (permuted)"


def _make_null(plan: Plan, results: Results, name: str, dataset: str, n_columns: int) -> Section:
    """Draw the modalities and Semi-Clipped, and below each of them beside Semi-Clipped after an exchange of labels."""
    number = f"Figure {name.removeprefix('figure')}"
    title = f"Semi-Clipped beside both modalities, and beside chance, on {dataset}"
    read = _read_null(plan, results, dataset)
    if read is None:
        return Section(name, number, title, missing="Semi-Clipped has no result.")
    sets, overlap = read
    ours, permuted = _name_ours(plan)
    limits = sets[list(THRESHOLDS)].drop_duplicates().head(n_columns).to_numpy()
    modalities = _list_members(sets, TX, IMG)
    rows = [[*modalities, ours], *([one, ours, permuted] for one in modalities)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(rows), len(limits), squeeze=False)
        for i, names in enumerate(rows):
            for j, (low, high) in enumerate(limits):
                part = sets[(sets["threshold_low"] == low) & (sets["threshold_high"] == high)]
                _draw_venn(axes[i, j], part.drop(columns=list(THRESHOLDS)), names)
                if i == 0:
                    axes[i, j].set_title(f"{100 * low:g} % and {100 * high:g} %", fontsize="medium")

    note = (
        f"Chance: {ours} after an exchange of the perturbations of its rows. Quantiles of the overlap over "
        f"{plan.n_permutations} exchanges are in the file."
    )
    size = (5.8 * len(limits), 4.2 * len(rows))
    return Section(name, number, title, overlap, draw=draw, size=size, note=note)


def make_figure6(plan: Plan, results: Results) -> Section:
    """Return Semi-Clipped beside both modalities and beside chance, on another unseen set."""
    return _make_null(plan, results, "figure6", plan.null, 1)


def make_figure7(plan: Plan, results: Results) -> Section:
    """Return the same on the main unseen set, over thresholds."""
    return _make_null(plan, results, "figure7", plan.main, N_COLUMNS)
