"""The way of the data on published files."""

from __future__ import annotations

import numpy as np
import pytest

import semiclip as scl

pytestmark = pytest.mark.usefixtures("data_dir")


def test_lincs_pairs_and_trains_with_plates_as_batches_and_dmso_as_controls():
    mdata = scl.datasets.lincs_a549()
    keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "DMSO"}
    report = scl.pp.pair(mdata, **keys)
    assert report.attrs["summary"]["shared_keys"] == 8361 == report["shared"].sum()

    model = scl.tl.semiclip(
        mdata,
        student_rep="X_umap_tsne",
        teacher_rep="X_umap_tsne",
        **keys,
        batch_key="batch",
        max_epochs=5,
        rng=0,
        model_kwargs={"n_hidden": [64]},
        accelerator="cpu",
        enable_progress_bar=False,
    )
    assert len(model.history["train_loss"]) == 5
    assert mdata["rna"].obsm["X_semiclip"].shape == (27_837, 4)
    assert np.isfinite(mdata["rna"].obsm["X_semiclip"]).all()
    kept = report.attrs["summary"]["student_kept"]
    assert len(model.train_indices) + len(model.validation_indices) == kept


def test_compounds_distil_and_overexpression_wells_embed_with_their_own_controls():
    compounds, orfs = scl.datasets.u2os_compounds(), scl.datasets.u2os_orfs()
    encoder = scl.pp.encode(compounds["rna"], encoder="pca", n_components=20, normalize=False)
    model = scl.tl.semiclip(
        compounds,
        student_rep="X_pca",
        teacher_rep="X_image",
        pair_on="perturbation",
        perturbation_key="perturbation",
        control=None,
        max_epochs=150,
        train_size=0.75,
        rng=0,
        model_kwargs={"student_correction": "center", "teacher_correction": "center"},
        accelerator="cpu",
        enable_progress_bar=False,
    )
    # 40 held-out compounds: chance is 0.5 with a standard deviation of 0.046
    assert model.history["validation_mean_rank_percentile"].iloc[-1, 0] < 0.42
    scl.pp.encode(orfs, encoder=encoder)
    scl.tl.embed(orfs, model, control="control", batch_key="batch")
    assert orfs.obsm["X_semiclip"].shape == (1092, 812)
