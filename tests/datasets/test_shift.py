"""Samples as another assay would measure them."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import binom, chisquare, kstest

import semiclip as scl
from semiclip import errors
from semiclip.datasets import shift_assay

KINDS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array]


def make(convert=np.asarray, n=60, genes=20, dtype=np.float32):
    """Counts in three batches, with a gene that is in none and one that is constant in one of them after scaling."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.uniform(1, 40, genes), size=(n, genes))
    counts[:, 3] = 0
    obs = pd.DataFrame({"plate": pd.Categorical(np.array(list("abc"))[np.arange(n) % 3])})
    obs.index = [f"well{i}" for i in range(n)]
    var = pd.DataFrame({"length": np.arange(genes)}, index=[f"gene{i}" for i in range(genes)])
    adata = anndata.AnnData(convert(counts.astype(dtype)), obs=obs, var=var)
    adata.obsm["X_pca"], adata.layers["counts"], adata.uns["log1p"] = np.ones((n, 2)), adata.X.copy(), {}
    return adata


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def assert_unchanged(adata, before):
    np.testing.assert_array_equal(dense(adata.X), dense(before.X))
    assert type(adata.X) is type(before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)


@pytest.mark.parametrize("batch_key", ["plate", None])
@pytest.mark.parametrize("convert", KINDS)
def test_l1000_is_zscores_of_landmarks_in_each_batch(convert, batch_key):
    adata = make(convert)
    before = adata.copy()
    out = shift_assay(adata, assay="l1000", batch_key=batch_key, rng=1)
    assert_unchanged(adata, before)
    assert type(out.X) is np.ndarray and out.X.dtype == np.float32
    assert out.shape == (60, 12)
    assert not out.obsm and not out.layers and not out.uns
    pd.testing.assert_frame_equal(out.obs, adata.obs)
    genes = adata.var_names.get_indexer(out.var_names)
    assert (np.diff(genes) > 0).all()
    pd.testing.assert_frame_equal(out.var, adata.var.iloc[genes])
    counts = dense(adata.X).astype(float)
    batch = adata.obs["plate"].astype(str).to_numpy() if batch_key else np.repeat("all", 60)
    for name in np.unique(batch):
        rows = np.flatnonzero(batch == name)
        for place, gene in enumerate(genes):
            logged = [np.log1p(1e4 * counts[row, gene] / counts[row].sum()) for row in rows]
            sd = np.std(logged)
            expected = (logged - np.mean(logged)) / sd if sd > 0 else np.zeros(len(rows))
            np.testing.assert_allclose(out.X[rows, place], expected, rtol=1e-3, atol=1e-4)


def test_a_gene_that_does_not_vary_is_zero_and_landmarks_are_drawn_evenly():
    out = shift_assay(make(), assay="l1000", gene_share=1.0, rng=0)
    assert out.shape == (60, 20)
    assert (out.X[:, 3] == 0).all()
    drawn = np.zeros(20)
    generator = np.random.default_rng(0)
    for _ in range(200):
        out = shift_assay(make(n=4), assay="l1000", gene_share=0.3, rng=generator)
        assert out.n_vars == 6
        drawn[make().var_names.get_indexer(out.var_names)] += 1
    assert chisquare(drawn).pvalue > 0.001
    assert shift_assay(make(), assay="l1000", gene_share=0.001, rng=0).n_vars == 1


@pytest.mark.parametrize("convert", KINDS)
def test_cells_share_out_the_molecules_of_a_sample(convert):
    adata = make(convert)
    before = adata.copy()
    out = shift_assay(adata, assay="single_cell", rng=1)
    assert_unchanged(adata, before)
    assert out.shape == (300, 20)
    assert type(out.X) is type(adata.X) and out.X.dtype == np.float32
    assert not out.obsm and not out.layers and not out.uns
    assert list(out.obs_names[:6]) == [*(f"well0_{i}" for i in range(5)), "well1_0"]
    assert list(out.obs["sample"].astype(str)) == list(np.repeat(adata.obs_names, 5))
    assert list(out.obs["plate"]) == list(adata.obs["plate"].repeat(5))
    pd.testing.assert_frame_equal(out.var, adata.var)
    x, counts = dense(out.X), dense(adata.X)
    assert (x >= 0).all() and (x == x.round()).all()
    # five cells of a fifth each have every molecule once
    np.testing.assert_array_equal(x.reshape(60, 5, 20).sum(axis=1), counts)
    # all kinds of counts are drawn alike
    np.testing.assert_array_equal(x, shift_assay(make(), assay="single_cell", rng=1).X)
    np.testing.assert_array_equal(x, dense(shift_assay(make(dtype=np.int64), assay="single_cell", rng=1).X))


def test_molecules_are_drawn_from_a_multinomial_law():
    """Every cell is binomial, and two cells of a sample are as correlated as multinomial counts are."""
    adata = anndata.AnnData(np.full((4000, 1), 30, dtype=np.float32))
    adata.obs_names = [f"s{i}" for i in range(4000)]
    out = shift_assay(adata, assay="single_cell", n_cells=3, depth=0.25, rng=0)
    x = out.X.reshape(4000, 3)
    law = binom(30, 0.25)
    for cell in x.T:
        observed = np.bincount(np.clip(cell, 2, 14).astype(int), minlength=15)[2:]
        expected = np.array([law.cdf(2), *law.pmf(np.arange(3, 14)), law.sf(13)]) * 4000
        assert chisquare(observed, expected).pvalue > 0.001
    left = binom(30, 0.25)  # what is in no cell
    assert kstest(30 - x.sum(axis=1) + np.random.default_rng(0).uniform(-0.5, 0.5, 4000), _smooth(left)).pvalue > 0.001
    correlation = np.corrcoef(x.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlation, -0.25 / 0.75, atol=4 / np.sqrt(4000))


def _smooth(law):
    """Return the distribution function of a count that is spread evenly over half a step to either side."""
    return lambda x: law.cdf(np.floor(x - 0.5)) + law.pmf(np.floor(x + 0.5)) * (x + 0.5 - np.floor(x + 0.5))


def test_the_seed_decides():
    for options in ({"assay": "l1000", "batch_key": "plate"}, {"assay": "single_cell"}):
        one, same, other = (shift_assay(make(), rng=seed, **options) for seed in (5, 5, 6))
        np.testing.assert_array_equal(one.X, same.X)
        assert not (list(one.var_names) == list(other.var_names) and np.array_equal(one.X, other.X))


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of missing genes
def test_knockouts_in_other_assays_are_embedded_and_recalled_above_chance(tmp_path):
    study = scl.datasets.simulate(n_compounds=60, n_knockouts=40, n_pathways=8, n_genes=200, rng=0)
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=20, rng=0)
    encoder.min_overlap = 0.6
    counts = study.knockouts["rna"]
    l1000 = shift_assay(counts, assay="l1000", batch_key="batch", rng=0)
    cells = shift_assay(counts, assay="single_cell", rng=0)
    scl.pp.encode(counts, encoder=encoder)
    scl.pp.encode(l1000, encoder=encoder, zscores=True)
    scl.pp.encode(cells, encoder=encoder)
    keys = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    keys |= {"relationships": study.relationships, "use_rep": "X_pca", "rng": 0, "n_permutations": 200}
    for adata in (counts, l1000, cells):
        table = scl.tl.recall(adata, **keys).set_index("key").loc["mean"]
        assert table["value"] > 0.15  # chance is 0.1
        assert table["p_value"] < 0.01
    cells.write_h5ad(tmp_path / "cells.h5ad")
    assert anndata.read_h5ad(tmp_path / "cells.h5ad").shape == cells.shape


def taken(adata):
    adata.obs["sample"] = 1
    return adata


def spoiled(value):
    def spoil(adata):
        adata.X[[2, 7], 1] = value
        return adata

    return spoil


L1000, CELLS = {"assay": "l1000"}, {"assay": "single_cell"}


@pytest.mark.parametrize(
    ("change", "options", "error", "data"),
    [
        (None, {"assay": "l2000"}, errors.UnknownChoice, {"name": "assay", "choices": ["l1000", "single_cell"]}),
        (None, L1000 | {"n_cells": 5, "depth": 0.2}, errors.IdleArgument, {"names": ["n_cells", "depth"]}),
        (None, CELLS | {"gene_share": 0.5, "batch_key": "plate"}, errors.IdleArgument,
         {"names": ["batch_key", "gene_share"]}),
        (None, L1000 | {"gene_share": 0}, errors.BadValue, {"name": "gene_share"}),
        (None, L1000 | {"gene_share": 1.1}, errors.BadValue, {"name": "gene_share"}),
        (None, L1000 | {"batch_key": "run"}, errors.MissingColumn, {"key": "run", "name": "batch_key"}),
        (lambda adata: adata[:4], L1000 | {"batch_key": "plate"}, errors.TooFew, {"number": 1, "needed": 2}),
        (None, CELLS | {"n_cells": 0}, errors.BadValue, {"name": "n_cells"}),
        (None, CELLS | {"depth": 0}, errors.BadValue, {"name": "depth"}),
        (None, CELLS | {"n_cells": 6}, errors.BadValue, {"name": "depth", "value": 0.2}),
        (taken, CELLS, errors.NameTaken, {"items": "sample"}),
        (lambda adata: adata[:0], CELLS, errors.Empty, {}),
        *((spoiled(value), assay, errors.NotCounts, {"rows": ["well2", "well7"]})
          for value in (-1, 0.5) for assay in (L1000, CELLS)),
        (spoiled(np.nan), CELLS, errors.NotFinite, {"rows": ["well2", "well7"]}),
    ],
)  # fmt: skip
def test_refuses(refuses, change, options, error, data):
    adata = make() if change is None else change(make())
    with refuses(error, **data):
        shift_assay(adata, **options)
