"""One row per perturbation, against loops over perturbations and over pairs of their rows."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from semiclip import errors
from semiclip.correction import correct
from semiclip.tl import aggregate, nearest, recall

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
AS_IS = {"control": None, "method": None}


def correct_by_hand(adata, key, **options):
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x = correct(adata.obsm[key], adata.obs["plate"].astype(int).to_numpy(), control, **options)
    return x.astype(np.float64), control


def cosine(u, v):
    return u @ v / np.sqrt((u @ u) * (v @ v))


def average_by_hand(rows, average):
    """Average rows (n, d) as the docstring says, one after the other."""
    if average == "median":
        return np.array([np.median(column) for column in rows.T])
    if average == "mean" or len(rows) == 1:
        return sum(rows) / len(rows)
    weights = []
    for i, row in enumerate(rows):
        cosines = [cosine(row, other) for j, other in enumerate(rows) if j != i]
        weights.append(max(sum(cosines) / len(cosines), 0))
    if sum(weights) == 0:
        return sum(rows) / len(rows)
    return sum(weight * row for weight, row in zip(weights, rows, strict=True)) / sum(weights)


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize("average", ["mean", "median", "weighted"])
@pytest.mark.parametrize("method", ["center", "tvn"])
def test_rows_are_what_loops_make(adata, average, by_batch, method):
    made = aggregate(adata, use_rep=["signal", "noise"], average=average, by_batch=by_batch, method=method, **KEYS)
    keys = ["gene", "plate"] if by_batch else ["gene"]
    labels = adata.obs[keys].astype(str).agg("_".join, axis=1)
    treated = ~adata.obs["gene"].isin(["EGFP", "LACZ"])
    assert list(made.obs_names) == sorted(set(labels[treated]))
    measures = [f"{measure}_{key}" for key in ("signal", "noise") for measure in ("consistency", "effect_size")]
    assert list(made.obs) == [*keys, "n_obs", "n_batches", *measures]
    for key in ("signal", "noise"):
        x, control = correct_by_hand(adata, key, method=method)
        origin = np.median(x[control], axis=0) if average == "median" else x[control].mean(axis=0)
        assert made.obsm[key].dtype == np.float64
        for name, row in zip(made.obs_names, made.obsm[key], strict=True):
            own = (labels == name).to_numpy()
            expected = average_by_hand(x[own], average)
            # batches are corrected in single precision where the data are
            np.testing.assert_allclose(row, expected, rtol=1e-7, atol=1e-9)
            obs = made.obs.loc[name]
            assert (obs["n_obs"], obs["n_batches"]) == (own.sum(), adata.obs["plate"][own].nunique())
            cosines = [cosine(x[i], x[j]) for i, j in combinations(np.flatnonzero(own), 2)]
            np.testing.assert_allclose(obs[f"consistency_{key}"], np.mean(cosines) if cosines else np.nan, atol=1e-9)
            distance = np.sqrt(((expected - origin) ** 2).sum())
            np.testing.assert_allclose(obs[f"effect_size_{key}"], distance, rtol=1e-7)


def make_few(rows):
    """Rows of one perturbation, and two controls that are alike."""
    import anndata

    values = np.array([*rows, [0.0, 1.0], [0.0, 3.0]])
    obs = pd.DataFrame({"gene": ["A"] * len(rows) + ["EGFP"] * 2}, index=[f"well{i}" for i in range(len(values))])
    return anndata.AnnData(obs=obs, obsm={"X_rep": values})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0], [3, 0], [-2, 0]], [2 / 3, 0]),  # cosines 1, -1 and -1: no row agrees with the others
        ([[1, 0], [3, 0], [0, -2]], [2, 0]),  # the third has cosine 0 with both
        ([[1, 0], [1, 1]], [1, 0.5]),  # two rows weigh the same
        ([[4, 5]], [4, 5]),
    ],
)
def test_weights_at_the_edges(rows, expected):
    options = {"use_rep": "X_rep", "perturbation_key": "gene", "method": None}
    made = aggregate(make_few(rows), control="EGFP", average="weighted", **options)
    np.testing.assert_allclose(made.obsm["X_rep"], [expected], atol=1e-12)
    # controls average to (0, 2); without controls the distance is that from 0, and they are a perturbation
    assert made.obs["effect_size_X_rep"].item() == pytest.approx(np.hypot(expected[0], expected[1] - 2))
    every = aggregate(make_few(rows), control=None, average="weighted", **options)
    assert list(every.obs_names) == ["A", "EGFP"]
    assert every.obs["effect_size_X_rep"].tolist() == pytest.approx([np.hypot(*expected), 2])


def test_x_stays_in_x_with_its_variables(adata):
    adata.var_names = [f"feature{i}" for i in range(6)]
    made = aggregate(adata, use_rep=["X", "signal"], method=None, **KEYS)
    assert list(made.var_names) == list(adata.var_names)
    assert list(made.obsm) == ["signal"]
    own = (adata.obs["gene"] == "GENE04").to_numpy()
    np.testing.assert_allclose(made["GENE04"].X[0], adata.X[own].astype(float).mean(axis=0), rtol=1e-12)


def test_measures_of_the_aggregate_are_those_of_the_rows(adata, known, tmp_path):
    options = {"use_rep": "signal", "relationships": known, "rng": 0}
    made = aggregate(adata, use_rep="signal", **KEYS)
    made.write_h5ad(tmp_path / "genes.h5ad")
    stored = sc.read_h5ad(tmp_path / "genes.h5ad")
    of_rows = recall(adata, **options, **KEYS).drop(columns="rank")
    for genes in (made, stored):
        table = recall(genes, **options, perturbation_key="gene", **AS_IS).drop(columns="rank")
        pd.testing.assert_frame_equal(table, of_rows)


def test_scanpy_goes_on_from_it_with_the_neighbours_of_nearest(adata):
    made = aggregate(adata, use_rep="signal", **KEYS)
    sc.pp.neighbors(made, use_rep="signal", n_neighbors=5, metric="cosine")  # the row itself is one of the five
    sc.tl.leiden(made, flavor="igraph", n_iterations=2, directed=False)
    table = nearest(made, use_rep="signal", perturbation_key="gene", **AS_IS, n_neighbors=4, n_permutations=0,
                    relationships=pd.DataFrame(columns=["gene_a", "gene_b"]))  # fmt: skip
    graph = made.obsp["distances"].toarray()
    for i, (_, rows) in enumerate(table.groupby("perturbation", sort=True)):
        places = made.obs_names.get_indexer(rows["neighbour"])
        assert set(np.flatnonzero(graph[i])) == set(places)
        np.testing.assert_allclose(1 - graph[i, places], rows["cosine"], atol=1e-6)
    assert made.obs["leiden"].nunique() > 1


def test_it_is_not_corrected_twice(adata, known, refuses):
    made = aggregate(adata, use_rep="signal", **KEYS)
    made.obsm["new"] = made.obsm["signal"]
    options = {"relationships": known, "perturbation_key": "gene", "control": None, "n_permutations": 0}
    with refuses(errors.Conflict, first="a correction"):
        recall(made, use_rep="signal", **options)
    recall(made, use_rep="new", method="center", **options)  # another representation may be
    raw = aggregate(adata, use_rep="signal", method=None, **KEYS)
    recall(raw, use_rep="signal", method="center", **options)


def test_refuses_what_says_nothing(adata, refuses):
    with refuses(errors.UnknownChoice, name="average", value="mode"):
        aggregate(adata, use_rep="signal", average="mode", **KEYS)
    with refuses(errors.NotGiven, name="batch_key"):
        aggregate(adata, use_rep="signal", by_batch=True, **{**KEYS, "batch_key": None})
    with refuses(errors.MissingColumn, key="well"):
        aggregate(adata, use_rep="signal", **{**KEYS, "batch_key": "well"})
    with refuses(errors.MissingEntry, key="other_key"):
        aggregate(adata, use_rep=["signal", "other_key"], **KEYS)
    adata.obs["n_obs"] = adata.obs["gene"]
    with refuses(errors.NameTaken, items=["n_obs"]):
        aggregate(adata, use_rep="signal", **{**KEYS, "perturbation_key": "n_obs"})


def test_labels_that_make_one_name_are_kept_apart(adata):
    gene, plate = adata.obs["gene"].astype(str), adata.obs["plate"]
    adata.obs["gene"] = gene.replace({"GENE00": "a", "GENE01": "a_b"})
    adata.obs["plate"] = np.where(gene == "GENE00", "b_c", np.where(gene == "GENE01", "c", plate))
    made = aggregate(adata, use_rep="signal", by_batch=True, method=None, **KEYS)
    both = made.obs.loc[["('a', 'b_c')", "('a_b', 'c')"]]  # for both, a_b_c says too little
    assert both["gene"].tolist() == ["a", "a_b"]
