from __future__ import annotations

import anndata
import mudata
import numpy as np
import pytest
import torch

import semiclip as scl
from semiclip.correction import PEA, correct
from semiclip.model import SemiClip


def test_one_mini_batch_of_distinct_keys_is_learned_by_heart(quiet):
    rng = np.random.default_rng(0)
    mods = {}
    for name, width in {"rna": 32, "image": 24}.items():
        mods[name] = anndata.AnnData(np.zeros((40, 1), dtype=np.float32))
        mods[name].obs_names = [f"{name}{i}" for i in range(40)]
        mods[name].var_names = [name]
        mods[name].obs["key"] = [f"k{i}" for i in range(40)]
        mods[name].obsm["X_emb"] = rng.normal(size=(40, width)).astype(np.float32)
    mdata = mudata.MuData(mods)
    SemiClip.setup_mudata(mdata, student_rep="X_emb", teacher_rep="X_emb", pair_on="key", control=None)
    model = SemiClip(mdata, n_hidden=[128])
    model.train(200, train_size=1.0, plan_kwargs={"lr": 0.1}, **quiet)
    assert float(model.history["train_loss"].iloc[-1, 0]) < 0.1

    # teacher rows that are all alike leave nothing to tell keys apart: the loss cannot fall below log B
    mdata["image"].obsm["X_emb"] = np.ones((40, 24), dtype=np.float32)
    SemiClip.setup_mudata(mdata, student_rep="X_emb", teacher_rep="X_emb", pair_on="key", control=None)
    flat = SemiClip(mdata, n_hidden=[16], teacher_correction=None)
    flat.train(5, train_size=1.0, **quiet)
    np.testing.assert_allclose(flat.history["train_loss"].to_numpy(float), np.log(40), rtol=1e-5)


def observed(adata, key):
    batch = adata.obs["batch"].cat.codes.to_numpy()
    return adata.obsm[key], batch, (adata.obs["perturbation"] == "control").to_numpy()


def test_each_side_is_corrected_as_pea_needs_it(untrained, mdata):
    """The student by its own batch, which is what PEA draws from in full; the teacher by all controls."""
    expected = {}
    for side, adata, key, profile in (
        ("student", mdata["rna"], "X_pca", "batch"),
        ("teacher", mdata["image"], "X_image", "clean"),
    ):
        read = untrained._read(mdata, side)
        x, batch, control = observed(adata, key)
        np.testing.assert_array_equal(read.values, x)
        np.testing.assert_array_equal(read.reference, control)
        assert [read.batch_names[code] for code in read.batch] == adata.obs["batch"].tolist()
        seen = read.correction("tvn", ridge=0.5)(read.values, read.batch)
        expected[side] = correct(x, batch, control, method="tvn", profile=profile, ridge=0.5)
        np.testing.assert_allclose(seen, expected[side], atol=1e-6)
        assert read.correction(None)(x, batch) is x

    # the student's, written out: an eigenvalue of the batch's scaled controls becomes its share of itself and the ridge
    x, batch, control = observed(mdata["rna"], "X_pca")
    for code in range(3):
        own = x[(batch == code) & control].astype(float)
        standard = (own - own.mean(axis=0)) / own.std(axis=0)
        values, vectors = np.linalg.eigh(np.cov(standard.T, ddof=0))
        by_hand = standard @ (vectors / np.sqrt(values + 0.5)) @ vectors.T
        np.testing.assert_allclose(expected["student"][(batch == code) & control], by_hand, atol=1e-4)


@pytest.mark.parametrize("pea", [None, PEA()])
def test_training_reads_raw_rows_with_pea_and_corrected_ones_without(untrained, mdata, pea):
    data = untrained._pair_data(pea, [], train_size=0.75)
    x, batch, control = observed(mdata["rna"], "X_pca")
    corrected = correct(x, batch, control, method="tvn", profile="batch", ridge=0.5)
    np.testing.assert_allclose(data.host.student.numpy(), x if pea else corrected, atol=1e-6)
    np.testing.assert_array_equal(data.host.batch.numpy(), batch)
    assert (data.make_augmentation is None) == (data.infer is None) == (pea is None)
    if pea:  # validation sees what inference sees
        np.testing.assert_allclose(data.infer(data.val_idx), corrected[data.val_idx], atol=1e-6)

    # the teacher's rows are sorted by key, without controls, and never touched by PEA
    x, batch, control = observed(mdata["image"], "X_image")
    taught = correct(x, batch, control, method="tvn", profile="clean", ridge=0.5)[~control]
    seen = data.host.teacher.numpy()
    assert len(seen) == len(taught)
    np.testing.assert_allclose(seen[np.lexsort(seen.T)], taught[np.lexsort(taught.T)], atol=1e-6)


def test_strong_pairing_in_one_anndata(quiet):
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(np.zeros((60, 1), dtype=np.float32))
    adata.obs["perturbation"] = ["control"] * 20 + [f"p{i % 10}" for i in range(40)]
    adata.obsm["X_rna"], adata.obsm["X_image"] = rng.normal(size=(60, 6)), rng.normal(size=(60, 5))
    SemiClip.setup_anndata(
        adata, student_rep="X_rna", teacher_rep="X_image", perturbation_key="perturbation", control="control"
    )
    model = SemiClip(adata)
    rows = torch.arange(20, 60)
    drawn = model._pair_data(None, [], train_size=0.9).host.pair(rows, rows, 0)
    assert drawn.teacher.tolist() == list(range(40))
    model.train(2, **quiet)
    assert not set(adata.obs["perturbation"].iloc[model.train_indices]) & set(
        adata.obs["perturbation"].iloc[model.validation_indices]
    )
    del adata.obsm["X_image"]
    assert model.get_latent_representation(adata).shape == (60, 5)


def test_data_without_controls_are_their_own_reference(mdata, setup, quiet):
    setup |= {"control": None, "batch_key": None}
    mdata = mudata.MuData({name: mod[mod.obs["perturbation"] != "control"].copy() for name, mod in mdata.mod.items()})
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata, student_correction="center", teacher_correction=None)
    seen = model._pair_data(None, [], train_size=0.9).host.student
    x = mdata["rna"].obsm["X_pca"]
    np.testing.assert_allclose(seen.numpy(), x - x.mean(axis=0), atol=1e-5)
    model.train(1, **quiet)
    assert model.is_trained


def _without_controls_in_a_batch(mdata):
    rna = mdata["rna"]
    first = rna.obs["batch"].cat.categories[0]
    kept = ~((rna.obs["batch"] == first) & (rna.obs["perturbation"] == "control"))
    return mudata.MuData({"rna": rna[kept.to_numpy()].copy(), "image": mdata["image"].copy()}), first


def test_a_batch_without_controls_is_refused_before_training_and_can_fall_back(mdata, setup, quiet):
    mdata, first = _without_controls_in_a_batch(mdata)
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata)
    with pytest.raises(ValueError, match=rf'1 batch\(es\) have fewer than two controls: {first} \(0\).*"pooled"'):
        model.train(1, **quiet)
    assert not model.is_trained
    pooled = SemiClip(mdata, fallback="pooled")
    pooled.train(1, **quiet)
    assert pooled.is_trained


def _rename(mdata):
    mdata["image"].obs["perturbation"] = "x" + mdata["image"].obs["perturbation"].astype(str)
    mdata["image"].obs.loc[mdata["image"].obs["perturbation"] == "xcontrol", "perturbation"] = "control"


def _drop_images(mdata):
    del mdata.mod["image"]


def _forget_dose(mdata):
    mdata["rna"].obs.loc[mdata["rna"].obs_names[:2], "dose"] = np.nan


def _forget_plate(mdata):
    del mdata["image"].obs["batch"]


def _repeat_names(mdata):
    mdata["rna"].obs_names = ["same"] * mdata["rna"].n_obs


def _text_dose(mdata):
    mdata["image"].obs["dose"] = mdata["image"].obs["dose"].astype(str)


@pytest.mark.parametrize(
    ("spoil", "changes", "error", "message"),
    [
        (None, {"student_rep": "X_scvi"}, KeyError, r"student_rep='X_scvi' is not in obsm, which has X_pca"),
        (None, {"teacher_rep": "X_dino"}, KeyError, r"teacher_rep='X_dino' is not in obsm, which has X_image"),
        (None, {"batch_key": "plate"}, KeyError, r"batch_key='plate' is not a column of obs"),
        (None, {"perturbation_key": "drug"}, KeyError, r"perturbation_key='drug' is not a column"),
        (None, {"split_key": "screen"}, KeyError, r"split_key='screen' is not a column"),
        (None, {"pair_on": ["smiles"]}, KeyError, r"pair_on='smiles' is not a column"),
        (None, {"pair_on": []}, ValueError, r"pair_on names no column"),
        (None, {"control": "DMSO"}, ValueError, r"control label\(s\) DMSO match no row of obs\['perturbation'\]"),
        (None, {"perturbation_key": None}, ValueError, r"control='control' needs perturbation_key="),
        (None, {"modalities": {"teacher": "cells"}}, KeyError, r"no modality 'cells', only rna, image"),
        (_rename, {}, ValueError, r"the modalities share no key on \['perturbation', 'dose'\]: the student has"),
        (_drop_images, {}, KeyError, r"no modality 'image', only rna"),
        (_forget_dose, {}, ValueError, r"obs\['dose'\] \(pair_on\) has no value in 2 row\(s\): rna_000, rna_001"),
        (_forget_plate, {}, KeyError, r"batch_key='batch' is not a column of obs"),
        (_repeat_names, {}, ValueError, r"modality 'rna' repeats observation names: same"),
        (_text_dose, {}, TypeError, r"obs\['dose'\] is numeric in one modality and text in the other"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(mdata, setup, spoil, changes, error, message):
    if spoil is not None:
        spoil(mdata)
    with pytest.raises(error, match=message):
        SemiClip.setup_mudata(mdata, **(setup | changes))
    assert not mdata.uns
    assert "_scvi_uuid" not in mdata["rna"].uns


def test_objects_of_the_wrong_kind(mdata, setup):
    with pytest.raises(TypeError, match="a MuData with the modality 'rna' is needed, not AnnData"):
        SemiClip.setup_mudata(mdata["rna"], **setup)
    del setup["pair_on"]
    with pytest.raises(TypeError, match=r"not a MuData; pass one of its modalities, such as mdata\['rna'\]"):
        SemiClip.setup_anndata(mdata, **setup)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_hidden": "big"}, "n_hidden='big' is neither 'auto' nor a list of widths"),
        ({"n_hidden": 64}, "n_hidden=64 is neither"),
        ({"n_hidden": (0,)}, "widths of at least 1"),
        ({"student_correction": "combat"}, "student_correction='combat' is not one of center, center_scale, tvn, None"),
        ({"teacher_correction": "combat"}, "teacher_correction='combat' is not one of"),
        ({"ridge": -1.0}, "ridge=-1.0 must not be negative"),
        ({"ridge": np.nan}, "ridge=nan must not be negative"),
        ({"fallback": "skip"}, "fallback='skip' is not one of raise, pooled"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"duplicates": "drop"}, "duplicates='drop' is not one of negative, mask, multi_positive"),
    ],
)
def test_choices_of_the_model_are_checked_when_it_is_made(mdata, setup, change, message):
    SemiClip.setup_mudata(mdata, **setup)
    with pytest.raises(ValueError, match=message):
        SemiClip(mdata, **change)


def test_an_empty_modality(mdata, setup):
    empty = mudata.MuData({"rna": mdata["rna"].copy(), "image": mdata["image"][:0].copy()})
    with pytest.raises(ValueError, match="modality 'image' has no observations"):
        SemiClip.setup_mudata(empty, **setup)


def test_guides_of_one_gene_are_held_out_together(mdata, setup, quiet, caplog):
    """Whose teacher samples are the same, so that a guide of a gene that trains says nothing new."""
    rng = np.random.default_rng(0)
    for adata in mdata.mod.values():
        control = (adata.obs["perturbation"] == "control").to_numpy()
        adata.obs["gene"] = np.where(control, "control", adata.obs["perturbation"].astype(str))
        guide = [f"{gene}_{i}" for gene, i in zip(adata.obs["gene"], rng.integers(3, size=adata.n_obs), strict=True)]
        adata.obs["guide"] = np.where(control, "control", guide)
    SemiClip.setup_mudata(mdata, **{**setup, "pair_on": "gene", "perturbation_key": "guide"})
    model = SemiClip(mdata)
    with caplog.at_level("INFO", logger="semiclip"):
        model.train(1, train_size=0.7, **quiet)
    obs = mdata["rna"].obs
    genes, guides = (obs[key].iloc[model.validation_indices].unique() for key in ("gene", "guide"))
    assert len(guides) > len(genes) > 1
    assert not set(genes) & set(obs["gene"].iloc[model.train_indices])
    treated = obs[obs["gene"] != "control"]
    n_tied = treated["guide"].nunique() - treated["gene"].nunique()
    assert f"{n_tied} join others" in caplog.text

    SemiClip.setup_mudata(mdata, **{**setup, "pair_on": "gene", "perturbation_key": "guide", "split_key": "guide"})
    alone = SemiClip(mdata)
    alone.train(1, train_size=0.7, **quiet)
    torn = set(obs["gene"].iloc[alone.validation_indices]) & set(obs["gene"].iloc[alone.train_indices])
    assert torn, "what is named is what is split by"


def test_a_student_that_is_corrected_already_is_warned_of(mdata, setup, caplog):
    keys = {name: setup[name] for name in ("perturbation_key", "control", "batch_key")}
    scl.pp.pea_correct(mdata["rna"], use_rep="X_pca", **keys)
    SemiClip.setup_mudata(mdata, **{**setup, "student_rep": "X_pca_tvn"})
    SemiClip(mdata, student_correction=None)
    assert "corrected already" not in caplog.text
    SemiClip(mdata)
    assert "obsm['X_pca_tvn'] is corrected already, by scl.pp.pea_correct" in caplog.text
    assert "pass student_rep='X_pca'" in caplog.text
    caplog.clear()
    SemiClip.setup_mudata(mdata, **setup)
    SemiClip(mdata)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
