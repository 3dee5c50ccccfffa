"""What each picture draws for any names: for the test of legibility and for the contact sheets of the documentation.

To add a picture, write a function ``draw_<name>(names)`` that makes its input for these names, draws it on a new figure
and returns what the picture returns. Where a picture compares nothing by name, the number of names says how much it
shows. ``LIMITS`` says where a picture refuses, ``UNWRITTEN`` where names need not be written.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from semiclip import errors, pl

NUMBERS = (1, 9, 30)
LENGTHS = {"short": "X_{:02d}", "long": "X_semiclip_distilled_from_images_{:02d}_of_cell_painting_assays"}
LIMITS = {("venn", 1): errors.TooFew, ("heatmap", 1): errors.TooFew}  # pictures and numbers of names
# pictures in which names need not be written, and why
UNWRITTEN = {"history": "draws a curve for each k", "pea_views": "outlines batches, whose names do not matter"}

LEVELS = np.array([0.05, 0.1, 0.15, 0.2, 0.25])
DATABASES = ["CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB", "mean", "union"]


def make_names(n: int, length: str) -> list[str]:
    """Return names that differ in two letters; the long ones have 60, alike at both ends."""
    return [LENGTHS[length].format(i + 1) for i in range(n)]


def cross(**levels) -> pd.DataFrame:
    """Return a row for each combination."""
    return pd.MultiIndex.from_product(list(levels.values()), names=list(levels)).to_frame(index=False)


def draw_recall(names):
    table, rng = cross(representation=names, key=DATABASES), np.random.default_rng(0)
    value = rng.uniform(0.08, 0.5, len(table))
    ends = {"ci_low": value - 0.03, "ci_high": value + 0.04, "threshold_low": 0.05, "threshold_high": 0.95}
    chance = {"n_pairs": 400, "chance": 0.1, "chance_mean": 0.1, "chance_sd": 0.012}
    return pl.recall(table.assign(value=value, **ends, **chance))


def draw_recall_curve(names):
    table = cross(representation=names, threshold_low=LEVELS)
    lift = np.repeat(np.random.default_rng(0).uniform(0.02, 0.25, len(names)), len(LEVELS))
    value = 2 * table["threshold_low"] + lift
    ends = {"ci_low": value - 0.03, "ci_high": value + 0.03, "threshold_high": 1 - table["threshold_low"]}
    return pl.recall_curve(table.assign(key="mean", value=value, n_pairs=400, **ends))


def draw_null_overlap(names):
    table, rng = cross(reference=names, threshold_low=LEVELS), np.random.default_rng(0)
    null = 800 * table["threshold_low"] ** 2
    counts = {"null_low": 0.7 * null, "null_median": null, "null_high": 1.4 * null, "p_value": 0.01}
    overlap = 3 * null + np.repeat(rng.uniform(10, 60, len(names)), len(LEVELS))
    rest = {"threshold_high": 1 - table["threshold_low"], "n_recalled": 300, "representation": names[0]}
    return pl.null_overlap(table.assign(overlap=overlap, **counts, **rest))


def draw_similarity(names):
    rng, edges, parts = np.random.default_rng(0), np.linspace(-1, 1, 41), []
    for name in names:
        counts = [np.histogram(np.tanh(rng.normal(*law)), edges)[0] for law in ((0, 0.3, 2000), (0.2, 0.4, 150))]
        densities = {"all": counts[0] / 100, "annotated": counts[1] / 7.5, "cut_low": -0.4, "cut_high": 0.4}
        table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n_all": counts[0], "n_annotated": counts[1]})
        parts.append(table.assign(representation=name, **densities))
    return pl.similarity(pd.concat(parts, ignore_index=True))


def draw_preservation(names):
    rows = []
    for i, name in enumerate(["random", "constant", "PCA", *names]):
        for seed in range(3):
            parts = (0.5 + 0.01 * i + 0.02 * seed, 0.1 + 0.01 * i - 0.02 * seed)
            values = {"structural_integrity": parts[0], "spearman_gene": parts[1], "preservation": 50 * sum(parts)}
            rows += [(metric, name, "unseen perturbations", value, seed) for metric, value in values.items()]
    return pl.preservation(pd.DataFrame(rows, columns=["metric", "representation", "key", "value", "seed"]))


def draw_zscores(names):
    metrics, sets = ["relationship_recall", "preservation"], ["HUVEC-KO", "LINCS", names[0]]
    table, rng = cross(dataset=sets, metric=metrics, representation=names), np.random.default_rng(0)
    return pl.zscores(table.assign(mean=rng.normal(size=len(table)), sd=0.2, n_seeds=5))


def draw_gains_losses(names):
    counts = np.random.default_rng(0).integers(20, 90, (3, len(names)))
    table = pd.DataFrame({"representation": names, "base": names[0]})
    return pl.gains_losses(table.assign(preserved=counts[0], gains=counts[1], losses=counts[2]))


def draw_venn(names):
    rng = np.random.default_rng(len(names))
    return pl.venn({name: set(np.flatnonzero(rng.random(400) < 0.4).tolist()) for name in names})


def draw_enrichment(names):
    n = len(names)
    table = pd.DataFrame({"gene_set": names, "n_overlap": np.arange(n, 0, -1), "n_set": np.arange(n + 30, 30, -1)})
    p = np.logspace(-5, -0.5, n)
    return pl.enrichment(table.assign(p_value=p / 4, p_adjusted=p), n_top=n)


def draw_gene_attribution(names):
    values = np.random.default_rng(0).normal(size=len(names))
    direction = np.resize(["up", "down", "mixed"], len(names))
    table = pd.DataFrame({"gene": names, "attribution": values, "direction": direction})
    return pl.gene_attribution(table, n_top=len(names))


def draw_relationship_network(names):
    rng, genes = np.random.default_rng(0), np.array([f"GENE{i}" for i in range(40)])
    a, b = np.triu_indices(len(genes), 1)
    chosen = np.sort(rng.permutation(len(a))[: 60 + len(names)])
    databases = [names[i % len(names)] for i in range(len(chosen))]
    pairs = {"gene_a": genes[a[chosen]], "gene_b": genes[b[chosen]], "databases": databases, "X": True}
    return pl.relationship_network(pd.DataFrame(pairs), inside="X", rng=0)


def draw_history(names):
    epochs = pd.RangeIndex(40, name="epoch")
    fall = np.exp(-np.arange(40) / 10)
    curves = {"train_loss": 1 + fall, "validation_loss": 2 + fall, "validation_mean_rank_percentile": 0.2 + 0.3 * fall}
    curves |= {f"validation_recall_at_{k + 1}": (0.9 - 0.8 / (k + 2)) * (1 - fall) for k in range(len(names))}
    return pl.history({name: pd.DataFrame({name: curve}, index=epochs) for name, curve in curves.items()})


def draw_ablation(names):
    table, rng = cross(rung=["base", *names], seed=range(8)), np.random.default_rng(0)
    rise = np.repeat(0.3 + 0.3 * np.sqrt(np.arange(len(names) + 1) / len(names)), 8)
    table = table.assign(recall=rise + rng.normal(0, 0.02, len(table)), unimodal=0.25)
    return pl.ablation(table, baseline="unimodal", chance=0.1)


def draw_sweep(names):
    rng = np.random.default_rng(0)
    settings = {name: [0.001, 0.01, 0.1, 0.3] for name in names} | {"optimizer": names}
    tables = [cross(parameter=[name], setting=values, seed=range(3)) for name, values in settings.items()]
    table = pd.concat([part.astype({"setting": object}) for part in tables], ignore_index=True)
    default = dict.fromkeys(names, 0.1) | {"optimizer": names[0]}
    return pl.sweep(table.assign(recall=rng.normal(0.5, 0.03, len(table))), default=default, chance=0.1)


def draw_pea_views(names):
    import anndata

    import semiclip as scl

    rng, n = np.random.default_rng(0), len(names)
    gene = np.array([*["NT"] * 8 * n, *[names[0]] * 2 * n])
    plate = np.array([*np.repeat(names, 8), *np.repeat(names, 2)])
    x = (
        rng.normal(size=(10 * n, 4))
        + 3 * (gene != "NT")[:, None]
        + 2 * rng.normal(size=(n, 4))[np.r_[np.repeat(range(n), 8), np.repeat(range(n), 2)]]
    )
    obs = pd.DataFrame({"gene": gene, "plate": plate}, index=[f"well{i}" for i in range(10 * n)])
    adata = anndata.AnnData(obs=obs, obsm={"X_pca": x})
    keys = {"use_rep": "X_pca", "perturbation_key": "gene", "control": "NT", "batch_key": "plate"}
    scl.pp.pea_correct(adata, **keys, stochastic=True, n_views=20, rng=0)
    return pl.pea_views(adata, **keys, views="X_pca_pea", perturbation=names[0])


def make_screen(names, n_wells=8):
    """Return wells of perturbations with these names, on four plates with these names."""
    import anndata

    rng, n = np.random.default_rng(0), len(names) * n_wells
    obs = pd.DataFrame({"gene": np.repeat(names, n_wells), "plate": np.resize(names[:4], n)}).astype("category")
    obs["well"] = [f"{'ABCDEFGHIJKLMNOP'[i % 16]}{i // 16 + 1:02}" for i in range(n)]
    x = np.repeat(rng.normal(size=(len(names), 10)), n_wells, axis=0) + 0.5 * rng.normal(size=(n, 10))
    obsm = {"X_pca": x + rng.normal(size=x.shape), "X_semiclip": x}
    return anndata.AnnData(obs=obs.set_axis([f"well{i}" for i in range(n)]), obsm=obsm)


def draw_embedding(names):
    return pl.embedding(make_screen(names), use_rep=["X_pca", "X_semiclip"], color="gene", layout="pca")


def draw_heatmap(names):
    genes = make_screen(names, n_wells=1)
    known = pd.DataFrame({"gene_a": names[:1], "gene_b": names[-1:]})
    return pl.heatmap(genes, use_rep=["X_pca", "X_semiclip"], perturbation_key="gene", relationships=known)


def draw_plate(names):
    return pl.plate(make_screen(names), color="gene", batch_key="plate")


def draw_dose(names):
    table = cross(perturbation=names, dose=[0.1, 1.0, 10.0])
    rise = np.log10(table["dose"]) + 2 + np.repeat(np.arange(len(names)) / len(names), 3)
    rest = {"representation": "X_semiclip", "chance": 1.0, "direction": np.tanh(rise)}
    return pl.dose(table.assign(size=rise, **rest))


PICTURES = {name.removeprefix("draw_"): draw for name, draw in list(globals().items()) if name.startswith("draw_")}
