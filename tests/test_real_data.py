"""The way of the data on published files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import semiclip as scl

pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.mark.slow
def test_lincs_pairs_and_trains_with_plates_as_batches_and_dmso_as_controls(quiet):
    mdata = scl.datasets.lincs_a549()
    keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "DMSO"}
    report = scl.pp.pair(mdata, **keys)
    assert report.attrs["summary"]["shared_keys"] == 8361 == report["shared"].sum()

    reps = {"student_rep": "X_umap_tsne", "teacher_rep": "X_umap_tsne", "batch_key": "batch"}
    model = scl.tl.semiclip(mdata, **reps, **keys, recipe="whole", max_epochs=5, rng=0, **quiet)
    assert len(model.history["train_loss"]) == 5
    assert mdata["rna"].obsm["X_semiclip"].shape == (27_837, 4)
    assert np.isfinite(mdata["rna"].obsm["X_semiclip"]).all()
    kept = report.attrs["summary"]["student_kept"]
    assert len(model.train_indices) + len(model.validation_indices) == kept


@pytest.mark.slow
def test_compounds_distil_and_overexpression_wells_embed_with_their_controls(quiet):
    compounds, orfs = scl.datasets.u2os_compounds(), scl.datasets.u2os_orfs()
    encoder = scl.pp.encode(compounds["rna"], encoder="pca", n_components=20, normalize=False, rng=0)
    setup = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": "perturbation"}
    setup |= {"perturbation_key": "perturbation", "control": None}
    corrections = {"student_correction": "center", "teacher_correction": "center"}
    model = scl.tl.semiclip(
        compounds, **setup, recipe="whole", max_epochs=150, train_size=0.75, rng=0, model_kwargs=corrections, **quiet
    )
    # 40 held-out compounds: chance is 0.5 with a standard deviation of 0.046
    assert model.history["validation_mean_rank_percentile"].iloc[-1, 0] < 0.42
    scl.pp.encode(orfs, encoder=encoder)
    scl.tl.embed(orfs, model, control="control", batch_key="batch")
    assert orfs.obsm["X_semiclip"].shape == (1092, 812)


@pytest.mark.parametrize(("method", "ridge"), [(None, None), ("center", None), ("tvn", None), ("tvn", 0.0)])
def test_recall_of_overexpressed_genes_equals_a_loop_over_labels(method, ridge):
    orfs = scl.datasets.u2os_orfs()
    keys = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    annotated, correction = scl.datasets.relationships(), {"method": method, "ridge": ridge}
    table = scl.tl.recall(orfs, use_rep="X", relationships=annotated, **correction, **keys, n_permutations=0)
    table = table.set_index("key")
    assert table.loc["union", "n_pairs"] == 1201
    assert set(table["n_genes"]) == {189}
    assert set(table["rank"]) == {155 if ridge == 0 else 978}  # 158 controls, less a mean per batch

    x = orfs.X
    if method is not None:
        scl.pp.pea_correct(orfs, use_rep="X", **correction, key_added="corrected", **keys)
        x = orfs.obsm["corrected"]
    means = pd.DataFrame(x.astype(float)).groupby(orfs.obs["perturbation"].to_numpy()).mean().drop("control")
    cosines = pd.DataFrame(cosine_similarity(means).round(12), index=means.index, columns=means.index)
    null = np.sort(cosines.to_numpy()[np.triu_indices(189, k=1)])
    for database, pairs in annotated.groupby("database"):
        pairs = pairs[pairs["gene_a"].isin(means.index) & pairs["gene_b"].isin(means.index)]
        values = np.array([cosines.loc[a, b] for a, b in pairs[["gene_a", "gene_b"]].to_numpy()])
        right = np.searchsorted(null, values, side="right") / null.size
        left = np.searchsorted(null, values, side="left") / null.size
        recalled = ((right <= 0.05) | (left >= 0.95)).sum()
        assert tuple(table.loc[database, ["n_pairs", "n_recalled"]]) == (len(pairs), recalled)
