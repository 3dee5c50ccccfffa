"""Figures 1, 2 and 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

import semiclip as scl
from semiclip._cli._paper import _published as published
from semiclip._cli._paper._grid import Cell, Grid
from semiclip._cli._paper._perform import PRESERVATION, RECALL
from semiclip._cli._paper._plan import OURS, PEA, UNIMODAL, Run
from semiclip._cli._paper._scores import METRICS, TITLES, arms, list_runs, name_failures, read_scores, summarise
from semiclip._cli._paper._section import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._paper._store import Results
    from semiclip._cli._paper._tables import Wanted

ADAPTERS = {False: "expression adapter", True: "both adapters"}
CHANCE = 0.1  # what a map that knows nothing recalls
NAMES = {
    "mlp": "MLP",
    "pca": "PCA",
    "scvi": "scVI",
    "scgpt": "scGPT",
    "mwo": "MWO",
    "mdwgan_gp": "MDWGAN-GP",
    "scgft": "scGFT",
}
COMBINED = "combined"
NO_CONTROLS = "The training data have no controls: nothing can be augmented with PEA."


def _list_choices(plan: Plan) -> list[tuple[str, Run]]:
    """Return the runs of Figure 1, named by encoder, how it is trained, and adapters."""
    return [
        (f"{_name_choice(encoder, trained)}|{ADAPTERS[both]}", run)
        for encoder, trained in plan.choices
        for both in ADAPTERS
        for run in list_runs(plan, method=OURS, encoder=encoder, trained=trained, teacher_adapter=both)
    ]


def _name_choice(encoder: str, trained: str) -> str:
    return f"{NAMES.get(encoder, encoder)} {trained}"


def list_figure1(plan: Plan) -> Wanted:
    """Return the runs of Figure 1."""
    return {run: {RECALL} for _, run in _list_choices(plan)}


def make_figure1(plan: Plan, results: Results) -> Section:
    """Return what comes of training encoders, and of an adapter for the images, on the main unseen set."""
    title = f"Training choices: recall of known relationships on {plan.main}"
    if not plan.choices:
        return Section(
            "figure1", "Figure 1", title, missing="The student's embedding is given, so no encoder is trained."
        )
    scores = read_scores(plan, results, _list_choices(plan), [RECALL])
    note = name_failures(scores)
    scores = scores[scores["dataset"] == plan.main]
    parts = scores["name"].str.split("|", expand=True)
    data = summarise(scores, ["name"])
    whole = _keep_whole(scores.assign(rung=parts[0], adapters=parts[1]), ["rung"], 2 * len(plan.seeds))

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        base = _name_choice(*plan.choices[-1])
        base = base if (whole["rung"] == base).any() else whole["rung"].iloc[0]
        scl.pl.ablation(_as_share(whole), value=TITLES[RECALL], method="adapters", base=base, chance=CHANCE, ax=ax)

    can_draw = whole["rung"].nunique() > 1 if not whole.empty else False
    return Section("figure1", "Figure 1", title, data, draw=draw if can_draw else None, note=note)


def list_figure2a(plan: Plan) -> Wanted:
    """Return the runs of Figure 2a."""
    return {run: {RECALL, PRESERVATION} for _, run in arms(plan, [UNIMODAL, *plan.compared])}


def make_figure2a(plan: Plan, results: Results) -> Section:
    """Return standardised scores of methods without augmentation."""
    title = "Methods without augmentation: scores standardised over methods"
    scores = read_scores(plan, results, arms(plan, [UNIMODAL, *plan.compared]))
    note = name_failures(scores)
    n_figures = len(scores.dropna(subset="dataset")[["dataset", "metric"]].drop_duplicates()) * len(plan.seeds)
    whole = _keep_whole(scores, ["name"], n_figures)
    if whole["name"].nunique() < 2:
        return Section(
            "figure2a",
            "Figure 2a",
            title,
            summarise(scores, ["name", "dataset", "metric"]),
            note=note,
            missing="Fewer than two methods have all figures.",
        )
    data = scl.tl.zscores(
        whole[["name", "dataset", "metric", "seed", "value"]], by="name", within=["dataset", "metric"]
    )
    n_sets, n_methods = whole["dataset"].nunique(), whole["name"].nunique()

    def draw(figure: Figure) -> None:
        shown = data.replace({"metric": TITLES})
        scl.pl.zscores(shown, by="name", ax=figure.subplots(1, n_sets, squeeze=False)[0])

    size = (1.8 + 2.6 * n_sets, 1.6 + 0.34 * n_methods)
    return Section("figure2a", "Figure 2a", title, data, draw=draw, size=size, note=note)


def _list_augmented(plan: Plan) -> list[tuple[str, Run]]:
    """Return the runs of Figure 2b: without augmentation, with each rival of PEA, with PEA, and with all."""
    rivals = tuple(plan.augmentations)
    rungs: dict[str, dict[str, Any]] = {
        "none": {},
        **{NAMES.get(kind, kind): {"views": (kind,)} for kind in rivals},
        "PEA": {"rung": PEA},
    }
    if len(rivals) > 1:
        rungs |= {COMBINED: {"views": rivals}, f"{COMBINED} + PEA": {"views": rivals, "rung": PEA}}
    if not plan.has_controls:
        rungs = {name: fields for name, fields in rungs.items() if "rung" not in fields}
    return [(name, run) for name, fields in rungs.items() for run in list_runs(plan, method=OURS, **fields)]


def _can_augment(plan: Plan) -> bool:
    return plan.settings.student.encoder is not None


def list_figure2b(plan: Plan) -> Wanted:
    """Return the runs of Figure 2b."""
    return {run: {RECALL, PRESERVATION} for _, run in _list_augmented(plan)} if _can_augment(plan) else {}


def make_figure2b(plan: Plan, results: Results) -> Section:
    """Return what PEA and other augmentations add."""
    title = "Augmentations of Semi-Clipped: scores"
    if not _can_augment(plan):
        missing = "The student's embedding is given: without its encoder, expression cannot be augmented."
        return Section("figure2b", "Figure 2b", title, missing=missing)
    scores = read_scores(plan, results, _list_augmented(plan))
    note = "; ".join(filter(None, [name_failures(scores), "" if plan.has_controls else NO_CONTROLS]))
    n_figures = len(scores.dropna(subset="dataset")[["dataset", "metric"]].drop_duplicates()) * len(plan.seeds)
    whole = _keep_whole(scores, ["name"], n_figures)
    panels = [(name, metric) for name in plan.sets for metric in METRICS if not _select(whole, name, metric).empty]
    n_columns = max(1, len({metric for _, metric in panels}))
    n_rows = max(1, len(panels) // n_columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for ax, (name, metric) in zip(axes, panels, strict=False):
            part = _select(whole, name, metric)
            part = _as_share(part) if metric == RECALL else part.rename(columns={"value": TITLES[metric]})
            scl.pl.ablation(part, value=TITLES[metric], rung="name", base="none", ax=ax)
            ax.set_title(name)
        for empty in axes[len(panels) :]:
            empty.remove()

    quoted = _quote_gains(plan)
    size = (5.4 * n_columns, 3.6 * n_rows)
    can_draw = bool(panels) and whole["name"].nunique() > 1 and (whole["name"] == "none").any()
    data = summarise(scores, ["name", "dataset", "metric"])
    paint = draw if can_draw else None
    return Section("figure2b", "Figure 2b", title, data, draw=paint, size=size, published=quoted, note=note)


def _quote_gains(plan: Plan) -> Grid | None:
    """Return the relative gains of the paper for the sets that this study names."""
    rows = [
        (paper, [Cell(f"+{100 * gain:.0f} %") for gain in published.FIGURE2B[paper]])
        for one in plan.settings.unseen.values()
        if (paper := str(one.paper)) in published.FIGURE2B
    ]
    caption = f"Gain of recall over no augmentation in the paper: {published.SOURCE}."
    return Grid(caption, [], ["PEA", "All augmentations + PEA"], rows, "Data set") if rows else None


def _list_swept(plan: Plan) -> list[tuple[str, Any, Run]]:
    return [
        (name, value, run)
        for name, values in plan.sweep.items()
        for value in values
        for run in list_runs(plan, method=OURS, change=(name, value))
    ]


def list_figure3(plan: Plan) -> Wanted:
    """Return the runs of Figure 3."""
    return {run: {RECALL} for *_, run in _list_swept(plan)}


def make_figure3(plan: Plan, results: Results) -> Section:
    """Return how recall on the main unseen set depends on each setting."""
    title = f"Settings of Semi-Clipped: recall of known relationships on {plan.main}"
    parts = []
    for name, value, run in _list_swept(plan):
        scores = read_scores(plan, results, [(f"{name} {value:g}", run)], [RECALL])
        parts.append(scores.assign(parameter=name, setting=value))
    scores = pd.concat(parts, ignore_index=True)
    note = name_failures(scores)
    scores = scores[scores["dataset"] == plan.main]
    whole = _keep_whole(scores, ["parameter", "setting"], len(plan.seeds))
    data = summarise(scores, ["parameter", "setting"])
    n_panels = whole["parameter"].nunique()

    def draw(figure: Figure) -> None:
        axes = figure.subplots(-(-n_panels // 2), min(n_panels, 2), squeeze=False, sharey=True).ravel()
        for empty in axes[n_panels:]:
            empty.remove()
        options: dict[str, Any] = {
            "default": _find_defaults(plan, results),
            "chance": CHANCE,
            "ax": list(axes[:n_panels]),
        }
        scl.pl.sweep(_as_share(whole), value=TITLES[RECALL], **options)

    size = (7.2, 2.9 * -(-n_panels // 2) if n_panels else 3)
    return Section("figure3", "Figure 3", title, data, draw=draw if n_panels else None, size=size, note=note)


def _find_defaults(plan: Plan, results: Results) -> dict[str, Any]:
    """Return the settings that stay while others change, as trained models tell them."""
    defaults: dict[str, Any] = {}
    for changed, _, run in _list_swept(plan):
        for name in plan.sweep:
            if name != changed and name in (settings := results[run].settings):
                value = settings[name]
                defaults[name] = value.get("student") if isinstance(value, dict) else value
    return defaults


def _as_share(scores: pd.DataFrame) -> pd.DataFrame:
    """Return recall as shares, under the name of the axis."""
    return scores.assign(value=scores["value"] / 100).rename(columns={"value": TITLES[RECALL]})


def _select(table: pd.DataFrame, dataset: str, metric: str) -> pd.DataFrame:
    return table[(table["dataset"] == dataset) & (table["metric"] == metric)]


def _keep_whole(scores: pd.DataFrame, by: list[str], n_rows: int) -> pd.DataFrame:
    """Leave out what lacks a seed or a figure, since pictures are of the same seeds for all."""
    held = scores.dropna(subset="value")
    return held[held.groupby(by)["value"].transform("size").to_numpy() == n_rows] if len(held) else held
