"""Setting up a model: what it reads, what pairs, what is split by, and what is refused."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES


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


def test_strong_pairing_in_one_anndata(quiet, refuses, spy):
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(np.zeros((60, 1), dtype=np.float32))
    adata.obs["perturbation"] = ["control"] * 20 + [f"p{i % 10}" for i in range(40)]
    adata.obsm["X_rna"], adata.obsm["X_image"] = rng.normal(size=(60, 6)), rng.normal(size=(60, 5))
    keys = {"student_rep": "X_rna", "teacher_rep": "X_image", "perturbation_key": "perturbation"}
    with refuses(errors.UnknownControl, labels=["water"]):
        SemiClip.setup_anndata(adata, **keys, control=["control", "water"])
    SemiClip.setup_anndata(adata, **keys, control="control")
    model, watch = SemiClip(adata, teacher_correction="center"), spy()
    model.train(2, callbacks=[watch], **quiet)
    assert watch.data.tensors.key.tolist() == [-1] * 20 + list(range(40))
    centred = adata.obsm["X_image"][20:] - adata.obsm["X_image"][:20].mean(axis=0)
    np.testing.assert_allclose(watch.data.tensors.teacher, centred, atol=1e-6)
    train, validation = (
        set(adata.obs["perturbation"].iloc[rows]) for rows in (model.train_indices, model.validation_indices)
    )
    assert not train & validation
    del adata.obsm["X_image"]
    assert model.get_latent_representation(adata).shape == (60, 5)


def test_data_without_controls_are_their_own_reference(mdata, setup, quiet, spy):
    setup |= {"control": None, "batch_key": None}
    mdata = mudata.MuData({name: mod[mod.obs["perturbation"] != "control"].copy() for name, mod in mdata.mod.items()})
    SemiClip.setup_mudata(mdata, **setup)
    model, watch = SemiClip(mdata, student_correction="center", teacher_correction=None), spy()
    model.train(1, callbacks=[watch], **quiet)
    x = mdata["rna"].obsm["X_pca"]
    np.testing.assert_allclose(watch.data.tensors.student.numpy(), x - x.mean(axis=0), atol=1e-5)


def spoil(mdata, name, key=None, change=None):
    """Change a modality, a column of it, or leave it out."""
    if key is None:
        mdata.mod[name] = change(mdata[name])
    elif change is None:
        del mdata[name].obs[key]
    else:
        mdata[name].obs[key] = change(mdata[name].obs[key])


def repeat(adata):
    adata.obs_names = ["same"] * adata.n_obs
    return adata


def rename(labels):
    return labels.astype(str).where(labels == "control", "x" + labels.astype(str))


@pytest.mark.parametrize(
    ("spoiled", "changes", "error", "data"),
    [
        (None, {"student_rep": "X_scvi"}, errors.MissingEntry, {"key": "X_scvi", "name": "student_rep"}),
        (None, {"teacher_rep": "X_dino"}, errors.MissingEntry, {"key": "X_dino", "name": "teacher_rep"}),
        *((None, {name: "plate"}, errors.MissingColumn, {"key": "plate", "name": name})
          for name in ("batch_key", "perturbation_key", "split_key", "pair_on")),
        (None, {"pair_on": []}, errors.BadValue, {"name": "pair_on", "value": []}),
        (None, {"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        (None, {"control": ["control", "water"]}, errors.UnknownControl, {"labels": ["water"]}),
        (None, {"perturbation_key": None}, errors.UnknownControl, {"perturbation_key": None}),
        (None, {"modalities": {"teacher": "cells"}}, errors.MissingEntry, {"key": "cells", "there": ["rna", "image"]}),
        (("image", "perturbation", rename), {}, errors.NothingShared, {"sides": ("the student", "the teacher")}),
        (("image", "perturbation", lambda labels: labels.astype(str).replace("control", "negcon")), {},
         errors.UnknownControl, {"labels": ["control"]}),
        (("image", None, lambda images: images[:0].copy()), {}, errors.Empty, {}),
        (("rna", "dose", lambda dose: dose.where(dose.index != "rna_001")), {"control": None},
         errors.MissingValues, {"rows": ["rna_001"]}),
        (("image", "batch"), {}, errors.MissingColumn, {"key": "batch", "name": "batch_key"}),
        (("rna", None, repeat), {}, errors.Repeated, {"items": ["same"]}),
        (("image", "dose", lambda dose: dose.astype(str)), {}, errors.WrongDtype, {"dtype": "text"}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_and_nothing_is_written(mdata, setup, refuses, spoiled, changes, error, data):
    if spoiled is not None:
        spoil(mdata, *spoiled)
    with refuses(error, **data):
        SemiClip.setup_mudata(mdata, **(setup | changes))
    assert not mdata.uns
    assert "_scvi_uuid" not in mdata["rna"].uns


def test_objects_of_the_wrong_kind(mdata, setup, refuses):
    with refuses(errors.WrongType, got=anndata.AnnData):
        SemiClip.setup_mudata(mdata["rna"], **setup)
    with refuses(errors.MissingEntry, key="image", there=["rna"]):
        SemiClip.setup_mudata(mudata.MuData({"rna": mdata["rna"]}), **setup)
    del setup["pair_on"]
    with refuses(errors.WrongType, got=mudata.MuData):
        SemiClip.setup_anndata(mdata, **setup)


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        *(({"n_hidden": widths}, errors.BadValue, {}) for widths in ("big", 64, (0,))),
        *(({"teacher_adapter": widths}, errors.BadValue, {}) for widths in ("auto", 64, [8, 0])),
        *(({f"{side}_correction": "combat"}, errors.UnknownChoice, {"choices": ["center", "center_scale", "tvn"]})
          for side in ("student", "teacher")),
        ({"objective": "simclr"}, errors.UnknownChoice, {"choices": [*OBJECTIVES]}),
        ({"ridge": -1.0}, errors.BadValue, {}),
        ({"ridge": np.inf}, errors.BadValue, {}),
        ({"fallback": "skip"}, errors.UnknownChoice, {"choices": ["raise", "pooled"]}),
        ({"temperature": 0.0}, errors.BadValue, {}),
        ({"duplicates": "drop"}, errors.UnknownChoice, {"choices": ["negative", "mask", "multi_positive"]}),
    ],
)  # fmt: skip
def test_choices_of_the_model_are_checked_when_it_is_made(mdata, setup, refuses, change, error, data):
    ((name, value),) = change.items()
    SemiClip.setup_mudata(mdata, **setup)
    with refuses(error, name=name, value=value, **data):
        SemiClip(mdata, **change)


def test_guides_of_one_gene_are_held_out_together(mdata, setup, quiet, caplog):
    """Whose teacher samples are the same, so that a guide of a gene that trains says nothing new."""
    rng = np.random.default_rng(0)
    for adata in mdata.mod.values():
        control = (adata.obs["perturbation"] == "control").to_numpy()
        adata.obs["gene"] = np.where(control, "control", adata.obs["perturbation"].astype(str))
        guide = [f"{gene}_{i}" for gene, i in zip(adata.obs["gene"], rng.integers(3, size=adata.n_obs), strict=True)]
        adata.obs["guide"] = np.where(control, "control", guide)
    obs = mdata["rna"].obs
    held_out = {}
    caplog.set_level("INFO", logger="semiclip")
    for split_key in (None, "guide"):
        SemiClip.setup_mudata(mdata, **setup | {"pair_on": "gene", "perturbation_key": "guide", "split_key": split_key})
        model = SemiClip(mdata)
        model.train(1, train_size=0.7, **quiet)
        rows = obs.iloc[model.validation_indices]
        held_out[split_key] = set(rows["gene"]) & set(obs["gene"].iloc[model.train_indices])
        if split_key is None:
            assert rows["guide"].nunique() > rows["gene"].nunique() > 1
    assert not held_out[None]
    assert held_out["guide"], "what is named is what is split by"
    # and what pairs is said, and how many guides are tied
    treated = obs[obs["gene"] != "control"]
    n_tied = treated["guide"].nunique() - treated["gene"].nunique()
    assert [record.args for record in caplog.records if record.name == "semiclip._sides"] == [(n_tied,)]
    n_shared = [record.args[0] for record in caplog.records if record.name == "semiclip._pairing"]
    assert n_shared == [24, 24]


def test_a_student_that_is_corrected_already_is_warned_of(mdata, setup, warned):
    keys = {name: setup[name] for name in ("perturbation_key", "control", "batch_key")}
    scl.pp.pea_correct(mdata["rna"], use_rep="X_pca", **keys)
    SemiClip.setup_mudata(mdata, **{**setup, "student_rep": "X_pca_tvn"})
    SemiClip(mdata, student_correction=None)
    SemiClip(mdata)
    SemiClip.setup_mudata(mdata, **setup)
    SemiClip(mdata)
    (message,) = warned()
    assert "obsm['X_pca_tvn']" in message
    assert "student_rep='X_pca'," in message
