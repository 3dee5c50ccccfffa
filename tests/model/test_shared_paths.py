"""A projected teacher where training goes on, resumes, or is saved on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scvi.train import SaveCheckpoint

import semiclip as scl
from semiclip import errors
from semiclip.metrics import choose_weight, shared_directions
from semiclip.model import SemiClip

N_SHARED = 3


@pytest.fixture
def make(mdata, setup):
    def make(seed=0, **arguments):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(seed)
        return SemiClip(mdata, n_shared=N_SHARED, **arguments)

    return make


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_embeddings_in_double_precision_are_read(make, mdata, quiet, weight):
    for adata, key in ((mdata["rna"], "X_pca"), (mdata["image"], "X_image")):
        adata.obsm[key] = adata.obsm[key].astype(np.float64)
    model = make(distilled_weight=weight)
    model.train(1, **quiet)
    assert model.get_latent_representation().dtype == np.float32


def test_training_goes_on_with_the_same_projection(make, quiet, spy):
    model, watch = make(), spy()
    model.train(1, **quiet)
    before = {name: values.copy() for name, values in model.projection_.items()}
    half = model.train_indices[::2]
    model.train(
        1, datasplitter_kwargs={"external_indexing": [half, model.validation_indices]}, callbacks=[watch], **quiet
    )
    for name, values in before.items():
        np.testing.assert_array_equal(model.projection_[name], values)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_of_another_split_is_refused(make, quiet, tmp_path, refuses):
    from lightning.pytorch.callbacks import ModelCheckpoint

    def keep(name):
        return [ModelCheckpoint(dirpath=tmp_path / name, save_last=True)]

    make(0).train(2, callbacks=keep("first"), **quiet)
    path = str(tmp_path / "first" / "last.ckpt")
    with refuses(errors.Mismatch):
        make(1).train(3, ckpt_path=path, callbacks=keep("second"), **quiet)
    make(0).train(3, ckpt_path=path, callbacks=keep("third"), **quiet)


def test_models_that_are_weighed_at_the_end_are_not_saved_on_the_way(make, quiet, tmp_path, refuses):
    saved = SaveCheckpoint(dirpath=str(tmp_path), monitor="validation_loss")
    with refuses(errors.Conflict):
        make(distilled_weight=0.5).train(1, callbacks=[saved], **quiet)


def test_only_what_lies_in_the_space_of_the_teacher_is_compared_with_it(make, mdata, quiet, refuses):
    for objective, arguments in (("dcca", {"n_components": 2}), ("kd", {})):
        model = make(objective=objective, **arguments)
        model.train(1, batch_size=64, plan_kwargs={"lr": 1e-4}, **quiet)
        with refuses(errors.Refused):
            scl.tl.embed_teacher(mdata, model)


def test_a_baseline_has_no_teacher_to_compare_with(mdata, setup, refuses):
    model = scl.tl.distill(mdata, objective="ridge", **setup)
    with refuses(errors.WrongType):
        scl.tl.embed_teacher(mdata, model)


def test_sides_of_other_keys_and_shares_that_are_none_are_refused(refuses):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(60, 4)), rng.normal(size=(60, 5))
    with refuses(errors.WrongShape, shape=((50, 4), (60, 5))):
        choose_weight(student[:50], teacher, 2)
    with refuses(errors.BadValue, name="weights", value=2.0):
        choose_weight(student, teacher, 2, weights=[0.5, 2.0])
    with refuses(errors.Empty):
        choose_weight(student, teacher, 2, weights=[])
    with refuses(errors.BadValue, name="n_folds", value=1):
        shared_directions(student, teacher, n_folds=1)


def test_the_rate_of_the_recipe_gives_way_to_a_preset(mdata, setup, quiet):
    model = scl.tl.semiclip(mdata, **setup, **quiet, preset="paper", max_epochs=1, rng=0, model_kwargs={"n_shared": 2})
    assert model.train_params_["lr"] == 1e-3
