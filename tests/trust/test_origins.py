"""Errors about arguments that nobody typed in this call say where they come from; those about typed ones do not."""

from __future__ import annotations

import pytest

import semiclip as scl
from semiclip import errors

FROM_MODEL = {"student_rep", "teacher_rep", "pair_on", "perturbation_key", "control", "batch_key"}


@pytest.fixture(scope="module")
def model(small_study):
    columns = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    options = {"batch_key": "batch", "objective": "ridge", "key_added": "X_ridge"}
    return scl.tl.distill(small_study.mdata.copy(), student_rep="X_pca", teacher_rep="X_image", **columns, **options)


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts["rna"].copy()


def remove(adata, column):
    del adata.obs[column]
    return adata


@pytest.mark.parametrize("column", ["perturbation", "batch"])
def test_columns_of_the_setup_are_from_the_model(model, knockouts, column):
    with pytest.raises(errors.MissingColumn) as caught:
        scl.tl.embed(remove(knockouts, column), model)
    name = {"perturbation": "perturbation_key", "batch": "batch_key"}[column]
    assert (caught.value.name, caught.value.key, caught.value.say_origin()) == (name, column, " (from the model)")
    assert f"{name}={column!r} (from the model)" in str(caught.value)
    assert FROM_MODEL <= set(caught.value.origins)


def test_columns_that_were_typed_are_not(model, knockouts):
    with pytest.raises(errors.MissingColumn) as caught:
        scl.tl.embed(knockouts, model, batch_key="plate")
    assert "from the model" not in str(caught.value)
    assert set(caught.value.origins) == set(model.registry["setup_args"]) - {"batch_key"}
    with pytest.raises(errors.UnknownControl) as caught:
        scl.tl.embed(knockouts, model, control="DMSO")
    assert "DMSO match" in str(caught.value)
    assert "obs['perturbation'] (perturbation_key from the model)" in str(caught.value)


def test_labels_and_representations_are_from_the_model(model, knockouts):
    with pytest.raises(errors.UnknownControl) as caught:
        scl.tl.embed(knockouts[knockouts.obs["perturbation"] != "control"].copy(), model)
    assert "control label(s) control (from the model) match no row" in str(caught.value)
    del knockouts.obsm["X_pca"]
    for embed in (model.get_latent_representation, lambda adata: scl.tl.embed(adata, model)):
        with pytest.raises(errors.MissingEntry) as caught:
            embed(knockouts)
        assert str(caught.value).startswith("student_rep='X_pca' (from the model) is not in obsm")


def test_gaps_are_in_columns_from_the_model(model, knockouts):
    knockouts.obs["batch"] = (
        knockouts.obs["batch"].astype(object).mask(knockouts.obs["batch"] == knockouts.obs["batch"].iloc[0])
    )
    with pytest.raises(errors.MissingValues) as caught:
        scl.tl.embed(knockouts, model)
    assert str(caught.value).startswith("obs['batch'] (batch_key from the model) has no value")


def test_a_loaded_model_and_the_teacher_say_so_as_well(small_study, setup, quiet, tmp_path):
    model = scl.tl.semiclip(small_study.mdata.copy(), **setup, **quiet, recipe="whole", max_epochs=1, rng=0)
    model.save(tmp_path / "model")
    rna = remove(small_study.mdata["rna"].copy(), "batch")
    with pytest.raises(errors.MissingColumn) as caught:
        scl.model.SemiClip.load(tmp_path / "model", rna)
    assert "batch_key='batch' (from the model)" in str(caught.value)
    image = small_study.mdata["image"].copy()
    del image.obsm["X_image"]
    with pytest.raises(errors.MissingEntry) as caught:
        scl.tl.embed_teacher(image, model)
    assert str(caught.value).startswith("teacher_rep='X_image' (from the model) is not in obsm")


@pytest.mark.parametrize("objective", ["semiclip", "ridge"])
def test_what_is_typed_in_the_call_that_trains_is_from_nowhere(mdata, setup, quiet, objective):
    with pytest.raises(errors.MissingColumn) as caught:
        scl.tl.distill(mdata, objective=objective, **{**setup, "batch_key": "plate"}, **quiet)
    assert not caught.value.origins
    with pytest.raises(errors.UnknownControl) as caught:
        scl.tl.distill(mdata, objective=objective, **{**setup, "control": "DMSO"}, **quiet)
    assert not caught.value.origins


def test_what_is_typed_in_an_evaluation_is_from_nowhere(model, knockouts, small_study):
    scl.tl.embed(knockouts, model, key_added="X_ridge")
    columns = {"perturbation_key": "gene", "control": "control", "relationships": small_study.relationships}
    with pytest.raises(errors.MissingColumn) as caught:
        scl.tl.recall(knockouts, use_rep="X_ridge", **columns)
    assert not caught.value.origins
    assert "perturbation_key='gene' is not a column" in str(caught.value)


def test_the_layer_of_an_encoder_is_from_the_encoder(small_study):
    rna, pairs = small_study.mdata["rna"].copy(), {"pair_on": "perturbation", "control": "control"}
    rna.layers["counts"] = rna.X.copy()
    encoder = scl.pp.encode(rna, layer="counts", n_components=3, key_added="X_new")
    del rna.layers["counts"]
    augment = {"encoder": encoder, "perturbation_key": "perturbation", "progress_bar": False, **pairs}
    for call in (
        lambda: scl.pp.encode(rna, encoder=encoder),
        lambda: scl.pp.expression(rna, encoder=encoder),
        lambda: scl.pp.augment(rna, "mwo", **augment),
    ):
        with pytest.raises(errors.MissingEntry) as caught:
            call()
        assert str(caught.value).startswith("layer='counts' (from the encoder) is not in layers")
    for call in (
        lambda: scl.pp.encode(rna, layer="counts", n_components=3),
        lambda: scl.pp.augment(rna, "mwo", layer="counts", **augment),
    ):
        with pytest.raises(errors.MissingEntry) as caught:
            call()
        assert str(caught.value).startswith("layer='counts' is not in layers")


def test_what_gene_attribution_reads_is_from_the_model_or_the_encoder(small_study, setup, quiet, knockouts):
    knockouts.layers["counts"] = knockouts.X.copy()
    encoder = scl.pp.encode(knockouts, layer="counts", n_components=3, key_added="X_new")
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    explain = {"encoder": encoder, "perturbation": "gene_00", "n_permutations": 0, **columns}
    bare = knockouts.copy()
    del bare.layers["counts"]
    with pytest.raises(errors.MissingEntry) as caught:
        scl.tl.gene_attribution(bare, use_rep="X_new", **explain)
    assert str(caught.value).startswith("layer='counts' (from the encoder) is not in layers")
    with pytest.raises(errors.MissingEntry) as caught:
        scl.tl.gene_attribution(bare, use_rep="X_nothing", **explain)
    assert not caught.value.origins
    model = scl.tl.semiclip(small_study.mdata.copy(), **setup, **quiet, recipe="whole", max_epochs=1, rng=0)
    scl.tl.embed(knockouts, model)
    del knockouts.obsm["X_pca"]
    with pytest.raises(errors.MissingEntry) as caught:
        scl.tl.gene_attribution(knockouts, use_rep="X_semiclip", model=model, **explain)
    assert str(caught.value).startswith("student_rep='X_pca' (from the model) is not in obsm")


def test_the_batches_of_scvi_are_from_the_encoder(small_study):
    rna, quiet = small_study.mdata["rna"].copy(), {"enable_progress_bar": False, "log_every_n_steps": 1}
    encoder = scl.encoders.SCVIEncoder(n_latent=2, batch_key="batch", max_epochs=1, train_kwargs=quiet).fit(rna)
    with pytest.raises(errors.MissingColumn) as caught:
        encoder.denoise(remove(rna, "batch"))
    assert str(caught.value).startswith("batch_key='batch' (from the encoder) is not a column")
    with pytest.raises(errors.MissingColumn) as caught:
        scl.encoders.SCVIEncoder(batch_key="plate").fit(rna)
    assert str(caught.value).startswith("batch_key='plate' is not a column")
