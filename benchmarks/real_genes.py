"""Does what images know help genes that were never imaged? Knockdowns in RPE1, images of knockouts in HeLa.

364 genes have both; a split holds out a quarter of them, and their images, from training. Judged are these and the 221
genes without an image: recall of known relationships (mean of five databases, 5 % and 95 %), on embeddings centred on
each other since there are no controls. Retrieval is the mean rank percentile (0 best, 0.5 chance) of a held-out gene's
own image among those of all held-out genes. Every arm that learns also learns from permuted pairs, where the images of
the training genes have changed places.

The mean of five databases leans on two of them with few pairs among these genes, SIGNOR with 9 and Reactome with 48.
The mean of the others, and the union of all, are therefore given too.

Expression is scaled by column and given by its principal components. Scale and components are fitted on all 585
profiles, without a label or an image. What an arm chooses, such as the width, it chooses on inner splits of the
training genes by their images; relationships choose nothing. Recalls, and their differences from 200 components and
from permuted pairs, have 95 % intervals from 1,000 resamplings of the genes, the same in all splits and arms.

Prints one JSON line per figure, and keeps every single run, from which a second call goes on.
"""

from __future__ import annotations

import argparse
import base64
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _genes import WIDTHS, Outcome, Task, choose, list_settings, make_task, name_of, read
from _runs import make_runs
from _simulated import report
from sklearn.covariance import LedoitWolf
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import KFold

import semiclip as scl
from semiclip._cli._paper._perform import quiet
from semiclip.correction import correct
from semiclip.errors import Diverged, NoVariation, TooFew

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


RESULTS = Path(__file__).parent / "results"
KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": None}
CENTRED = {"student_correction": "center", "teacher_correction": "center"}
BASE = "200 components"
MEASURES = ("recall", "recall_large", "recall_union")
MANY = 100  # pairs of a database that is in the mean of the large ones
# of the distilled part beside the components, whose size it has; at 2 it is 4/5 of the cosine
WEIGHTS = np.array([0, 0.25, 0.35, 0.5, 0.7, 1, 1.4, 2])
FAILURES: dict[type[Exception], str] = {TooFew: "nothing shared", Diverged: "diverged", NoVariation: "collapsed"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM", help="by default all")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 splits")
    parser.add_argument("--out", type=Path, default=RESULTS / "real_genes_runs.jsonl", help="file of the runs")
    args = parser.parse_args()
    if args.quick:
        args.splits, args.out = 2, args.out.with_stem(f"{args.out.stem}_quick")
    args.arms = [*dict.fromkeys([BASE, *args.arms])]
    jobs = [
        {"arm": arm, "permuted": permuted, "split": split}
        for split in range(args.splits)
        for arm in args.arms
        for permuted in ((False,) if arm in COMPONENTS else (False, True))
    ]
    runs = make_runs(jobs, run, args.out, args.jobs)
    with quiet():  # which embeds by one thread again
        summarise(runs)


# the arms


def components(task: Task, width: int) -> Outcome:
    """The leading principal components of expression, which know nothing of images."""
    return Outcome(task.train["rna"].obsm[name_of(width)], task.unseen.obsm[name_of(width)])


def distil(task: Task, objective: str, width: int, **options: Any) -> Outcome:
    """Learn the images of the training genes by the package, from so many components."""
    mdata, unseen = task.train.copy(), task.unseen.copy()
    model = scl.tl.distill(
        mdata, objective=objective, student_rep=name_of(width), teacher_rep="X_image", pair_on="perturbation", **KEYS,
        key_added="X_taught", rng=0, accelerator="cpu", enable_progress_bar=False, **options,
    )  # fmt: skip
    scl.tl.embed(unseen, model, key_added="X_taught")
    taught, query = mdata["rna"].obsm["X_taught"], unseen.obsm["X_taught"]
    return Outcome(taught, query, query[: len(task.images)], task.images - task.taught.mean(axis=0), {"width": width})


def ridge(task: Task, width: int) -> Outcome:
    """Predict the images; the baseline chooses its penalty on folds of the training genes."""
    return distil(task, "ridge", width, train_size=1.0, model_kwargs=CENTRED)


def cca(task: Task, width: int, n_components: int, regularization: float) -> Outcome:
    """Canonical variates of expression, and of images, which are those of the baseline with the sides exchanged."""
    options = {"n_components": n_components, "regularization": regularization}
    outcome = distil(task, "cca", width, train_size=1.0, model_kwargs={**CENTRED, **options})
    genes, images = np.arange(len(task.taught)), task.taught
    other = scl.baselines.Cca(**options).fit(images, components(task, width).train, genes, rng=np.random.default_rng(0))
    signs = np.sign((outcome.train * other.transform(images)).sum(axis=0))
    return outcome._replace(candidates=other.transform(task.images) * signs, choice={"width": width, **options})


def directions(task: Task, width: int, n: int) -> Outcome:
    """Project expression on the directions it shares with images, the more correlated ones longer."""
    x, unseen = (side.obsm[name_of(width)] for side in (task.train["rna"], task.unseen))
    shared = scl.metrics.shared_directions(x, task.taught, n_folds=0)
    weight = shared.student[:, :n] * shared.correlations[:n]
    train, query = ((rows - shared.student_mean) @ weight for rows in (x, unseen))
    candidates = (task.images - shared.teacher_mean) @ shared.teacher[:, :n]
    return Outcome(train, query, query[: len(task.images)], candidates, {"width": width, "n": n})


def semiclip(task: Task, **options: Any) -> Outcome:
    """Semi-Clipped on 200 components; without controls, its TVN whitens by all training genes."""
    outcome = distil(task, "semiclip", 200, **options)
    known, n = np.concatenate([task.taught, task.images]), len(task.taught)
    images = correct(known, np.zeros(len(known), dtype=int), np.arange(len(known)) < n, ridge=0.5)[n:]
    return outcome._replace(candidates=images, choice={})


def shared(task: Task, width: int) -> Outcome:
    """Semi-Clipped by the default recipe of the package: its distilled part is what is compared with images."""
    mdata, unseen = task.train.copy(), task.unseen.copy()
    model = scl.tl.semiclip(
        mdata, student_rep=name_of(width), teacher_rep="X_image", pair_on="perturbation", **KEYS, train_size=1.0,
        key_added="X_taught", rng=0, accelerator="cpu", enable_progress_bar=False,
    )  # fmt: skip
    scl.tl.embed(unseen, model, key_added="X_taught")
    taught, query = mdata["rna"].obsm["X_taught"], unseen.obsm["X_taught"]
    choice = {"weight": model.train_params_["distilled_weight"]}
    if not choice["weight"]:
        return Outcome(taught, query, choice=choice)
    n = model.module.n_output
    taken = scl.metrics.shared_directions(components(task, width).train, task.taught, n_folds=0)
    candidates = (task.images - taken.teacher_mean) @ (taken.teacher[:, :n] * taken.correlations[:n])
    return Outcome(taught, query, query[: len(task.images), :n], candidates, {**choice, "n_shared": n})


def linear(task: Task, width: int, temperature: float) -> Outcome:
    """Semi-Clipped with a linear adapter, centred, and trained for fewer epochs."""
    model_kwargs = {"n_hidden": (), "temperature": temperature, **CENTRED}
    outcome = distil(task, "semiclip", width, max_epochs=50, train_size=1.0, model_kwargs=model_kwargs)
    return outcome._replace(choice={"width": width, "temperature": temperature})


def beside(task: Task, arm: Callable[..., Outcome], setting: dict[str, Any], weight: float) -> Outcome:
    """200 components with a distilled part beside them."""
    part = arm(task, **setting)
    train, unseen = blend(components(task, 200), part, weight)
    return part._replace(train=train, unseen=unseen, choice={**part.choice, "weight": weight})


def weigh(task: Task, arm: Callable[..., Outcome], **grid: tuple[Any, ...]) -> Outcome:
    """The same, with the setting and the weight whose cosines agree most with those of inner held-out images.

    The weight is 0 if the part alone agrees no more than with images that have changed places (p ≥ 0.05).
    """
    settings = list_settings(grid)
    agreements, p_values = zip(*(measure_agreement(task, arm, setting) for setting in settings), strict=True)
    best, place = np.unravel_index(np.argmax(agreements), np.shape(agreements))
    return beside(task, arm, settings[best], float(WEIGHTS[place]) if p_values[best] < 0.05 else 0.0)


def blend(base: Outcome, part: Outcome, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Join two parts, as large as each other over training genes but for the weight of the second."""
    scales = [1 / np.linalg.norm(base.train - base.train.mean(axis=0))]
    scales.append(weight / np.linalg.norm(part.train - part.train.mean(axis=0)))
    train, unseen = (
        np.hstack([scale * rows for scale, rows in zip(scales, parts, strict=True)])
        for parts in ((base.train, part.train), (base.unseen, part.unseen))
    )
    return train, unseen


def measure_agreement(task: Task, arm: Callable[..., Outcome], setting: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Return how the cosines of inner held-out genes agree with those of their images, at each weight, and p.

    Images are whitened, or their strongest directions decide alone: agreement of a ridge prediction then grows with the
    weight for ever.
    """
    generator, agreements, alone = np.random.default_rng(0), [], []
    for inner in task.inner(KFold(5, shuffle=True, random_state=0)):
        base, part = components(inner, 200), arm(inner, **setting)
        root = np.linalg.cholesky(LedoitWolf().fit(inner.taught).precision_)
        images, cosines = pairwise_cosines(inner.images @ root), pairwise_cosines(part.unseen)
        agreements.append([agree(pairwise_cosines(blend(base, part, weight)[1]), images) for weight in WEIGHTS])
        orders = [np.arange(len(images)), *(generator.permutation(len(images)) for _ in range(200))]
        alone.append([agree(cosines, images[np.ix_(order, order)]) for order in orders])
    observed, *null = np.mean(alone, axis=0)
    return np.mean(agreements, axis=0), float(scl.metrics.rank_p_value(observed, null, drawn=True))


def pairwise_cosines(x: np.ndarray) -> np.ndarray:
    return cosine_similarity(x - x.mean(axis=0))


def agree(cosines: np.ndarray, others: np.ndarray) -> float:
    """Correlate the cosines of all pairs."""
    above = np.triu_indices(len(cosines), k=1)
    return float(np.corrcoef(cosines[above], others[above])[0, 1])


# what arms choose from
RIDGE: dict[str, Any] = {"width": WIDTHS}
DIRECTIONS: dict[str, Any] = {"width": WIDTHS, "n": (3, 5, 10, 20)}
CCA: dict[str, Any] = {"width": WIDTHS, "n_components": (5, 10, 20), "regularization": (0.1, 1.0)}
LINEAR: dict[str, Any] = {"width": WIDTHS, "temperature": (0.1, 0.3)}
COMPONENTS = {f"{width} components": partial(components, width=width) for width in WIDTHS}
ARMS: dict[str, Callable[[Task], Outcome]] = {
    **COMPONENTS,
    "ridge": lambda task: ridge(task, **choose(task, ridge, **RIDGE)),
    "cca": lambda task: cca(task, **choose(task, cca, **CCA)),
    "directions": lambda task: directions(task, **choose(task, directions, **DIRECTIONS)),
    "semiclip": semiclip,
    "semiclip, 512 and 1024 hidden": partial(semiclip, model_kwargs={"n_hidden": (512, 1024)}),
    **{f"shared recipe of {width}": partial(shared, width=width) for width in WIDTHS},
    "linear": lambda task: linear(task, **choose(task, linear, **LINEAR)),
    "beside: half a ridge": lambda task: beside(task, ridge, choose(task, ridge, **RIDGE), weight=0.5),
    "beside: ridge": partial(weigh, arm=ridge, **RIDGE),
    "beside: directions": partial(weigh, arm=directions, **DIRECTIONS),
    "beside: linear": partial(weigh, arm=linear, **LINEAR),
    "beside: linear of 200": partial(weigh, arm=linear, **{**LINEAR, "width": (200,)}),
}


# judging


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train one arm on one split, and judge it; an arm that fails has no figures."""
    task = make_task(job["split"], permuted=job["permuted"])
    try:
        outcome = ARMS[job["arm"]](task)
        pairs = recalled(task, outcome.unseen)
    except tuple(FAILURES) as error:
        name = next(name for kind, name in FAILURES.items() if isinstance(error, kind))
        return {**dict.fromkeys(MEASURES, np.nan), "retrieval": np.nan, "choice": {}, "failure": name, "recalled": ""}
    shares = average(pairs, pairs[["recalled"]].to_numpy(), np.ones((1, len(pairs))))
    figures = {f"recall {name}": share for name, share in pairs.groupby("database")["recalled"].mean().items()}
    figures |= {name: float(value.item()) for name, value in shares.items()}
    hits = base64.b85encode(np.packbits(pairs["recalled"]).tobytes()).decode()
    return {**figures, "retrieval": outcome.rank, "choice": outcome.choice, "failure": "", "recalled": hits}


def recalled(task: Task, embedding: np.ndarray) -> pd.DataFrame:
    """Return each annotated pair of unseen genes, and whether the embedding recalls it."""
    return scl.metrics.recalled_pairs(embedding - embedding.mean(axis=0), task.unseen.obs_names, read()[-1])


def average(pairs: pd.DataFrame, hit: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return recalls of ``hit`` (n_pairs, n_maps), with each pair as often as ``weight`` (n_draws, n_pairs) says."""
    # a database of which no pair was drawn has no recall
    shares, n_pairs = [], []
    with np.errstate(invalid="ignore"):
        for places in pairs.groupby("database").indices.values():
            shares.append(weight[:, places] @ hit[places] / weight[:, places].sum(axis=1, keepdims=True))
            n_pairs.append(len(places))
        first = ~pairs.duplicated(["gene_a", "gene_b"]).to_numpy()
        union = weight[:, first] @ hit[first] / weight[:, first].sum(axis=1, keepdims=True)
    large = np.array(n_pairs) >= MANY
    return {
        "recall": np.nanmean(shares, axis=0), "recall_large": np.mean(np.array(shares)[large], axis=0),
        "recall_union": union,
    }  # fmt: skip


def summarise(runs: pd.DataFrame) -> None:
    runs["name"] = runs["arm"] + runs["permuted"].map({False: "", True: ", permuted pairs"})
    draws = resample(runs)
    for name, rows in runs.groupby("name", sort=False):
        arm, permuted = rows["arm"].iloc[0], bool(rows["permuted"].iloc[0])
        figures: dict[str, Any] = {"arm": arm, "permuted": permuted, "n_splits": len(rows)}
        if failures := rows.loc[rows["failure"] != "", "failure"].value_counts().to_dict():
            report("failed", **figures, failures=failures)
            continue
        for measure in MEASURES:
            row = {"measure": measure, "value": rows[measure].mean(), "sd": rows[measure].std()}
            row |= interval("", draws[name][measure])
            for label, other in {"base": BASE, "permuted": f"{arm}, permuted pairs"}.items():
                if other in draws and other != name:
                    row[f"gain_over_{label}"] = row["value"] - runs.loc[runs["name"] == other, measure].mean()
                    row |= interval(f"gain_over_{label}_", draws[name][measure] - draws[other][measure])
            report("recall of unseen genes", **figures, **row)
        databases = {column: rows[column].mean() for column in rows if column.startswith("recall ")}
        report("recall by database", **figures, **databases)
        if arm not in COMPONENTS:
            retrieval, choices = rows["retrieval"], rows["choice"].map(str).value_counts().to_dict()
            report("retrieval of held-out images", **figures, value=retrieval.mean(), sd=retrieval.std())
            report("chosen on inner splits", **figures, choices=choices)


def resample(runs: pd.DataFrame, n_draws: int = 1000) -> dict[str, dict[str, np.ndarray]]:
    """Return the recalls of each name, means over splits, for each resampling of the genes, (n_draws,).

    A pair counts as often as both of its genes were drawn; what is recalled is not decided anew.
    """
    genes = read()[0].obs_names
    times = np.random.default_rng(0).multinomial(len(genes), np.full(len(genes), 1 / len(genes)), size=n_draws)
    whole = runs.groupby("name").filter(lambda rows: (rows["failure"] == "").all())
    names, n_splits = whole["name"].unique(), whole["split"].nunique()
    total = {measure: np.zeros((n_draws, len(names))) for measure in MEASURES}
    for split, rows in whole.groupby("split"):
        task = make_task(int(split), permuted=False)
        pairs = recalled(task, components(task, 200).unseen)
        bits = [np.frombuffer(base64.b85decode(row), np.uint8) for row in rows.set_index("name").loc[names, "recalled"]]
        hit = np.stack([np.unpackbits(row, count=len(pairs)) for row in bits], axis=1).astype(float)
        drawn = [times[:, genes.get_indexer(pairs[gene])] for gene in ("gene_a", "gene_b")]
        for measure, values in average(pairs, hit, (drawn[0] * drawn[1]).astype(float)).items():
            total[measure] += values / n_splits
    return {name: {measure: total[measure][:, i] for measure in MEASURES} for i, name in enumerate(names)}


def interval(name: str, draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {f"{name}ci_low": float(low), f"{name}ci_high": float(high)}


if __name__ == "__main__":
    main()
