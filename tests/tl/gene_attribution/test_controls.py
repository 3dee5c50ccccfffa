"""Attributions where batches have few controls, or none."""

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.correction import fit_correction
from semiclip.tl import gene_attribution


def test_a_batch_without_controls_borrows_those_of_all(make, center):
    rna, encoder, model = make()
    lone = rna.obs["batch"].cat.categories[0]
    rna = rna[~((rna.obs["perturbation"] == "control") & (rna.obs["batch"] == lone))].copy()
    scl.tl.embed(rna, model, fallback="pooled")
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_02", **center}
    with pytest.raises(errors.TooFewControls):
        gene_attribution(rna, **explain)
    with pytest.raises(errors.TooFewControls):
        gene_attribution(rna, **{**explain, "method": None, "model": None, "use_rep": "X_genes"})
    table = gene_attribution(rna, fallback="pooled", **explain)
    whole = table.attrs["value"] - table.attrs["baseline"]
    assert table["attribution"].sum() == pytest.approx(whole, rel=1e-9)


def test_short_batches_share_the_mean_of_all_controls(make, monkeypatch, center):
    """Read once, however many batches borrow them, and worth what each batch on its own gives."""
    rna, encoder, _ = make()
    rna = rna.copy()
    rna.obs["batch"] = (np.arange(rna.n_obs) // 3).astype(str)
    batch, control = rna.obs["batch"].to_numpy(), (rna.obs["perturbation"] == "control").to_numpy()
    read, n_read = encoder.features, []

    def count(self, adata):
        n_read.append(adata.n_obs)
        return read(adata)

    monkeypatch.setattr(type(encoder), "features", count)
    explain = {"use_rep": "X_genes", "encoder": encoder, "perturbation": "gene_02", **center, "fallback": "pooled"}
    table = gene_attribution(rna, **explain)
    rows = np.flatnonzero(rna.obs["perturbation"] == "gene_02")
    own = [control & (batch == name) for name in np.unique(batch[rows])]
    assert sum(n_read) <= control.sum() + len(rows) + sum(which.sum() for which in own if which.sum() > 1)
    x = read(rna).astype(np.float64)
    pools = {name: control & (batch == name) for name in batch[rows]}
    start = [x[pool if pool.sum() > 1 else control].mean(axis=0) for pool in (pools[name] for name in batch[rows])]
    codes = pd.factorize(batch)[0]
    corrected = fit_correction(
        rna.obsm["X_genes"].astype(np.float64), codes, control, method="center", fallback="pooled"
    )
    z = corrected(rna.obsm["X_genes"].astype(np.float64), codes)
    origin = [z[pool if pool.sum() > 1 else control].mean(axis=0) for pool in (pools[name] for name in batch[rows])]
    direction = (z[rows] - origin).mean(axis=0)
    weight = encoder.model_.components_.T @ direction / np.linalg.norm(direction)
    expected = pd.Series((x[rows] - start).mean(axis=0) * weight, index=encoder.genes_)
    found = table.set_index("gene")["attribution"].reindex(encoder.genes_)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_batch_that_is_not_in_use_may_lack_controls(make, name, center):
    rna, encoder, _ = make()
    explain = {"use_rep": "X_genes", "encoder": encoder, "perturbation": "gene_02", **center}
    table = gene_attribution(rna, **explain)
    lone = rna.copy()
    lone.obs["batch"] = lone.obs["batch"].astype(str)
    lone.obs.loc[lone.obs_names[lone.obs["perturbation"] == "gene_05"][0], "batch"] = name
    pd.testing.assert_frame_equal(gene_attribution(lone, **explain), table)
