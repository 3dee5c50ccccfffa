"""Recipes of the whole way in one call: what each asks of the model and of its training."""

from __future__ import annotations

import numpy as np
import pytest
from lightning import Callback

import semiclip as scl
from semiclip import errors


@pytest.fixture
def mdata(shared_study):
    return shared_study.mdata.copy()


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"rng": 0}


class StopSoon(Callback):
    """Ends training with its first epoch, however many were asked for."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


@pytest.fixture
def untreated(setup):
    """A setup that names no controls."""
    return setup | {"control": None}


def settings(model):
    return model.init_params_["non_kwargs"]


def recorded(adata, key="X_semiclip"):
    return adata.uns["semiclip"][key]["params"]


def embedded(mdata, call=scl.tl.semiclip, **arguments):
    """Return the embedding of a copy of the data."""
    copied = mdata.copy()
    call(copied, **arguments)
    return copied["rna"].obsm["X_semiclip"]


def test_the_default_is_the_recipe_of_shared_directions(mdata, arguments):
    model = scl.tl.semiclip(mdata, **arguments)
    params = model.train_params_
    assert (params["max_epochs"], params["epochs"], params["lr"], params["distilled_weight"]) == (10, 10, 0.01, 1.0)
    assert settings(model)["n_hidden"] == []
    assert settings(model)["distilled_weight"] == "auto"
    assert settings(model)["student_correction"] == settings(model)["teacher_correction"] == "tvn"
    n_shared = settings(model)["n_shared"]
    assert 3 <= n_shared <= 6  # pathways
    assert mdata["rna"].obsm["X_semiclip"].shape == (mdata["rna"].n_obs, n_shared)
    assert bool(params["pea"])


def test_the_recipe_of_the_whole_teacher(mdata, arguments):
    model = scl.tl.semiclip(mdata, **arguments, recipe="whole", callbacks=[StopSoon()])
    params = model.train_params_
    assert (params["max_epochs"], params["epochs"], params["lr"], params["distilled_weight"]) == (50, 1, 0.1, 1.0)
    assert settings(model)["n_hidden"] == [64]  # few keys
    assert settings(model)["n_shared"] is None
    assert model.module.n_output == 16
    assert model.part_scales_ == (1.0, 0.0)


def test_what_was_not_measured_with_fewer_epochs_has_150(mdata, arguments):
    def count_epochs(**options):
        return scl.tl.distill(mdata, **arguments, **options, callbacks=[StopSoon()]).train_params_["max_epochs"]

    assert count_epochs(objective="semiclip") == 50
    assert count_epochs(objective="semiclip", preset="paper") == 150
    assert count_epochs(objective="vicreg") == 150
    encoder = scl.encoders.PCAEncoder(n_components=8, rng=0).fit(mdata["rna"])
    scl.pp.expression(mdata["rna"], encoder=encoder)
    options = {"model_kwargs": {"encoder": encoder}, "plan_kwargs": {"lr": {"student": 0.1, "encoder": 0.01}}}
    arguments["student_rep"] = "X_expression"
    assert count_epochs(objective="semiclip", **options) == 150


def test_fifty_epochs_of_the_whole_teacher_recall_as_much_as_150():
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    pairs = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], "recipe": "whole"}
    study = scl.datasets.simulate(**scl.datasets.REGIMES["keys_100"], rng=1)
    knockouts = study.knockouts["rna"]
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64, rng=1)
    scl.pp.encode(knockouts, encoder=encoder)
    for name, max_epochs in (("default", None), ("long", 150)):
        options = {"rng": 1, "accelerator": "cpu", "enable_progress_bar": False, "max_epochs": max_epochs}
        model = scl.tl.semiclip(study.mdata, **pairs, **columns, **options, train_size=1.0)
        assert model.train_params_["epochs"] == (max_epochs or 50)
        scl.tl.embed(knockouts, model, key_added=name)
    for method in ("tvn", "center"):
        options = {"relationships": study.relationships, "method": method, "n_permutations": 0}
        table = scl.tl.recall(knockouts, use_rep=["default", "long"], **columns, **options)
        recall = table[table["key"] == "mean"].set_index("representation")["value"]
        assert recall["default"] > 0.25  # chance is 0.10
        assert recall["default"] > recall["long"] - 0.03


def test_the_recipe_of_the_paper(mdata, arguments):
    model = scl.tl.semiclip(mdata, **arguments, recipe="paper", callbacks=[StopSoon()])
    params = model.train_params_
    assert (params["max_epochs"], params["epochs"], params["lr"]) == (150, 1, 1e-3)
    assert (params["batch_size"], params["optimizer"], params["min_lr"]) == (1024, "sgd", 1e-6)
    assert (params["momentum"], params["weight_decay"], params["schedule"]) == (0.95, 1e-4, "cosine")
    assert list(settings(model)["n_hidden"]) == [512, 1024]
    assert settings(model)["n_shared"] is None
    layers = [(layer.in_features, layer.out_features) for layer in model.module.adapter[::2]]
    assert layers == [(8, 512), (512, 1024), (1024, 16)]


@pytest.mark.parametrize("recipe", ["shared", "whole", "paper"])
def test_a_recipe_is_its_arguments_bit_by_bit(mdata, arguments, recipe):
    of_model, of_training = {
        "shared": ({"n_shared": "auto", "distilled_weight": "auto"}, {"plan_kwargs": {"lr": 0.01}}),
        "whole": ({}, {}),
        "paper": ({"n_hidden": [512, 1024]}, {"preset": "paper", "batch_size": 1024}),
    }[recipe]
    one, again = (embedded(mdata, **arguments, recipe=recipe, max_epochs=3) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    named = {"objective": "semiclip", "model_kwargs": of_model, "max_epochs": 3, **of_training}
    np.testing.assert_array_equal(embedded(mdata, scl.tl.distill, **arguments, **named), one)
    other = embedded(mdata, **arguments | {"rng": 1}, recipe=recipe, max_epochs=3)
    assert other.shape[1] != one.shape[1] or np.abs(other - one).max() > 1e-3


def test_distill_teaches_the_whole_teacher(mdata, arguments, refuses):
    model = scl.tl.distill(mdata, objective="semiclip", **arguments, max_epochs=1)
    assert settings(model)["n_shared"] is None
    assert settings(model)["distilled_weight"] == 1.0
    with refuses(errors.UnknownChoice, name="recipe", value="shared", choices=["whole", "paper"]):
        scl.tl.distill(mdata, objective="semiclip", recipe="shared", **arguments)


def test_arguments_of_the_user_go_before_those_of_a_recipe(mdata, arguments):
    of_model = {"n_shared": 2, "distilled_weight": 0.5, "n_hidden": [5]}
    plan = {"weight_decay": 0.25}
    model = scl.tl.semiclip(mdata, **arguments, model_kwargs=of_model, max_epochs=2, plan_kwargs=plan)
    assert {name: settings(model)[name] for name in of_model} == of_model
    params = model.train_params_
    assert (params["max_epochs"], params["lr"], params["weight_decay"]) == (2, 0.01, 0.25)
    assert params["distilled_weight"] == 0.5
    assert (of_model, plan) == ({"n_shared": 2, "distilled_weight": 0.5, "n_hidden": [5]}, {"weight_decay": 0.25})
    model = scl.tl.semiclip(mdata, **arguments, max_epochs=1, plan_kwargs={"lr": 0.125})
    assert model.train_params_["lr"] == 0.125
    model = scl.tl.semiclip(mdata, **arguments, max_epochs=1, model_kwargs={"n_shared": None})
    assert settings(model)["n_shared"] is None
    paper = {"recipe": "paper", "preset": "default", "batch_size": 64, "model_kwargs": {"n_hidden": [7]}}
    model = scl.tl.semiclip(mdata, **arguments, max_epochs=1, **paper)
    params = model.train_params_
    assert (params["lr"], params["batch_size"], list(settings(model)["n_hidden"])) == (0.1, 64, [7])


def test_recipes_are_the_same_after_a_call(mdata, arguments):
    for recipe, options in {
        "shared": {"plan_kwargs": {"lr": 0.5}, "model_kwargs": {"n_shared": 1}},
        "paper": {},
    }.items():
        scl.tl.semiclip(mdata, **arguments, recipe=recipe, max_epochs=1, **options)
    model = scl.tl.semiclip(mdata, **arguments, max_epochs=1)
    assert model.train_params_["lr"] == 0.01
    assert settings(model)["n_shared"] > 1


def test_without_controls_both_sides_are_centred(mdata, untreated, quiet):
    options = untreated | quiet | {"rng": 0, "max_epochs": 1}
    corrections = {}
    for recipe in ("shared", "whole", "paper"):
        model = scl.tl.semiclip(mdata, **options, recipe=recipe)
        corrections[recipe] = settings(model)["student_correction"], settings(model)["teacher_correction"]
    assert corrections == {"shared": ("center", "center"), "whole": ("tvn", "tvn"), "paper": ("tvn", "tvn")}
    model = scl.tl.semiclip(mdata, **options, model_kwargs={"student_correction": "center_scale"})
    assert (settings(model)["student_correction"], settings(model)["teacher_correction"]) == ("center_scale", "center")


def test_without_controls_the_student_is_kept_beside_what_it_learned(mdata, untreated, quiet, through_h5mu):
    model = scl.tl.semiclip(mdata, **untreated, **quiet, rng=0)
    weight = model.train_params_["distilled_weight"]
    params = recorded(through_h5mu(mdata)["rna"])
    assert params["distilled_weight"] == weight  # what was chosen
    assert params["n_shared"] == settings(model)["n_shared"]
    width = params["n_shared"] * (weight > 0) + 8 * (weight < 1)
    written = mdata["rna"].obsm["X_semiclip"]
    assert written.shape[1] == width
    squares = np.square(written[model.train_indices], dtype=float)
    assert squares.mean() == pytest.approx(1, rel=1e-4)
    if 0 < weight < 1:
        assert squares[:, : params["n_shared"]].sum() / squares.sum() == pytest.approx(weight, abs=1e-4)


def test_the_record_tells_what_was_shared(mdata, shared_study, arguments, through_h5mu):
    knockouts = shared_study.knockouts.copy()
    model = scl.tl.semiclip(mdata, **arguments, model_kwargs={"distilled_weight": 0.25})
    scl.tl.embed(knockouts, model)
    for data in (mdata, knockouts):
        params = recorded(through_h5mu(data)["rna"])
        assert (params["n_shared"], params["distilled_weight"]) == (settings(model)["n_shared"], 0.25)
        assert (params["max_epochs"], params["lr"]) == (10, 0.01)


def test_nothing_is_shared_with_images_without_a_response(quiet, setup, warned):
    sizes = {"n_compounds": 24, "n_knockouts": 24, "n_pathways": 6, "n_genes": 60, "n_image_features": 16}
    study = scl.datasets.simulate(**sizes, n_batches=3, n_controls=12, image_response="none", rng=0)
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8, rng=0)
    scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    scl.tl.semiclip(study.mdata, **setup, **quiet, rng=0)
    assert len(warned()) == 1
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    scl.pp.pea_correct(study.mdata["rna"], use_rep="X_pca", **columns, profile="batch", ridge=0.5, key_added="X_tvn")
    student, written = (study.mdata["rna"].obsm[key].astype(float) for key in ("X_tvn", "X_semiclip"))
    scale = (student * written).sum() / np.square(student).sum()
    np.testing.assert_allclose(written, scale * student, atol=1e-4)
    params = recorded(study.mdata["rna"])
    assert (params["n_shared"], params["distilled_weight"], params["epochs"]) == (0, 0, 0)


def test_unknown_recipes_are_refused(mdata, arguments, refuses):
    for recipe in ("best", None):
        with refuses(errors.UnknownChoice, name="recipe", value=recipe, choices=["shared", "whole", "paper"]):
            scl.tl.semiclip(mdata, **arguments, recipe=recipe)
    assert not mdata.uns
    assert "X_semiclip" not in mdata["rna"].obsm


def test_shared_directions_recall_genes_that_were_never_imaged():
    study = scl.datasets.simulate(rng=5)
    knockouts = study.knockouts["rna"]
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64, rng=5)
    scl.pp.encode(knockouts, encoder=encoder)
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    pairs = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
    model = scl.tl.semiclip(study.mdata, **pairs, **columns, rng=5, accelerator="cpu", enable_progress_bar=False)
    assert abs(model.module.n_output - 30) <= 6  # pathways
    scl.tl.embed(knockouts, model)
    options = {"relationships": study.relationships, "method": "center", "n_permutations": 0}
    table = scl.tl.recall(knockouts, use_rep=["X_pca", "X_semiclip"], **columns, **options)
    mean = table[table["key"] == "mean"].set_index("representation")["value"]
    assert mean["X_semiclip"] >= 0.8
    assert mean["X_semiclip"] > mean["X_pca"] + 0.3
