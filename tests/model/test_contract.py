"""What "scvi-tools-compatible" means: one test or more for each behaviour that users rely on."""

from __future__ import annotations

import gc
import weakref

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse

from semiclip.model import SemiClip


@pytest.fixture
def folder(model, tmp_path):
    model.save(str(tmp_path / "model"))
    return str(tmp_path / "model")


def test_loading_with_data_gives_identical_embeddings(model, folder, mdata, knockouts):
    loaded = SemiClip.load(folder, mdata.copy(), accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    np.testing.assert_array_equal(
        loaded.get_latent_representation(knockouts), model.get_latent_representation(knockouts)
    )
    assert loaded.is_trained
    np.testing.assert_array_equal(loaded.train_indices, model.train_indices)
    pd.testing.assert_frame_equal(loaded.history["validation_loss"], model.history["validation_loss"])


def test_loading_without_data_embeds_new_data_and_saves_again(model, folder, knockouts, tmp_path):
    loaded = SemiClip.load(folder, adata=False, accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(knockouts), model.get_latent_representation(knockouts)
    )
    assert loaded.adata is None
    loaded.save(str(tmp_path / "again"))
    again = SemiClip.load(str(tmp_path / "again"), adata=False, accelerator="cpu")
    np.testing.assert_array_equal(
        again.get_latent_representation(knockouts), model.get_latent_representation(knockouts)
    )
    with pytest.raises(ValueError, match="loaded without data; pass the samples"):
        loaded.get_latent_representation()
    with pytest.raises(ValueError, match="loaded without data; load it with"):
        loaded.train(1)


def test_loading_with_the_data_saved_beside_the_model(model, tmp_path):
    model.save(str(tmp_path / "model"), save_anndata=True)
    loaded = SemiClip.load(str(tmp_path / "model"), accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_loading_with_a_query_that_has_no_teacher(model, folder, knockouts):
    query = mudata.MuData({"rna": knockouts})
    with pytest.warns(UserWarning, match="var_names"):  # scvi-tools remarks that a modality is gone
        loaded = SemiClip.load(folder, query, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation(knockouts))


def test_further_training_continues_the_history(model, folder, mdata, quiet):
    loaded = SemiClip.load(folder, mdata.copy(), accelerator="cpu")
    loaded.train(3, **quiet)
    assert loaded.history["train_loss"].index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("wrap", [lambda query: query, lambda query: mudata.MuData({"rna": query})])
def test_a_query_needs_neither_teacher_nor_known_batches(model, knockouts, wrap):
    assert not set(knockouts.obs["batch"]) & set(model.adata["rna"].obs["batch"])
    embedded = model.get_latent_representation(wrap(knockouts))
    assert embedded.shape == (knockouts.n_obs, 16)
    assert embedded.dtype == np.float32
    # the correction is fitted on the query's own controls: an offset of a whole batch changes nothing
    moved = knockouts.copy()
    moved.obsm["X_pca"] = moved.obsm["X_pca"] + 100 * pd.factorize(moved.obs["batch"])[0][:, None]
    np.testing.assert_allclose(model.get_latent_representation(moved), embedded, atol=2e-4)


def test_a_query_with_columns_of_other_names(model, knockouts):
    expected = model.get_latent_representation(knockouts)
    knockouts.obs = knockouts.obs.rename(columns={"perturbation": "gene", "batch": "plate"})
    knockouts.obs["gene"] = knockouts.obs["gene"].cat.rename_categories({"control": "non-targeting"})
    embedded = model.get_latent_representation(
        knockouts, perturbation_key="gene", control="non-targeting", batch_key="plate"
    )
    np.testing.assert_array_equal(embedded, expected)
    with pytest.raises(KeyError, match="batch_key='batch' is not a column of obs"):
        model.get_latent_representation(knockouts)


def test_obsm_of_another_width(model, knockouts, mdata):
    knockouts.obsm["X_pca"] = knockouts.obsm["X_pca"][:, :5]
    with pytest.raises(ValueError, match="query has 5 dimensions, but the model was set up with 8"):
        model.get_latent_representation(knockouts)
    mdata["rna"].obsm["X_pca"] = mdata["rna"].obsm["X_pca"][:, :5]
    with pytest.raises(ValueError, match="does not match"):
        model.adata = mdata.copy()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(untrained, mdata, setup, knockouts, quiet, value):
    untrained.train(1, **quiet)
    knockouts.obsm["X_pca"][[2, 7], 3] = value
    names = ", ".join(knockouts.obs_names[[2, 7]])
    with pytest.raises(ValueError, match=rf"obsm\['X_pca'\] holds NaN or infinite values in 2 row\(s\): {names};"):
        untrained.get_latent_representation(knockouts)
    mdata["image"].obsm["X_image"][4] = value
    with pytest.raises(ValueError, match=rf"in 1 row\(s\): {mdata['image'].obs_names[4]}"):
        SemiClip.setup_mudata(mdata, **setup)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: pd.DataFrame(x),
        sparse.csr_matrix,
        sparse.csr_array,
        lambda x: x.astype(np.float64),
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    ],
    ids=["frame", "csr_matrix", "csr_array", "float64", "fortran", "strided"],
)
def test_any_storage_gives_the_same_numbers(model, knockouts, convert):
    expected = model.get_latent_representation(knockouts)
    converted = convert(knockouts.obsm["X_pca"])
    if isinstance(converted, pd.DataFrame):
        converted.index = knockouts.obs_names
    knockouts.obsm["X_pca"] = converted
    np.testing.assert_allclose(model.get_latent_representation(knockouts), expected, atol=1e-5)


def test_half_precision_is_accepted(model, knockouts):
    half = knockouts.obsm["X_pca"].astype(np.float16)
    knockouts.obsm["X_pca"] = half.astype(np.float32)
    expected = model.get_latent_representation(knockouts)
    knockouts.obsm["X_pca"] = half
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


def test_views_copies_and_backed_files_give_the_same_numbers(model, knockouts, tmp_path):
    kept = knockouts.obs["batch"] == knockouts.obs["batch"].iloc[0]
    view = knockouts[kept]
    assert view.is_view
    np.testing.assert_array_equal(model.get_latent_representation(view), model.get_latent_representation(view.copy()))
    assert view.is_view, "the user's view became an object of its own"
    knockouts.write(tmp_path / "query.h5ad")
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    np.testing.assert_array_equal(model.get_latent_representation(backed), model.get_latent_representation(knockouts))
    backed.file.close()


def test_indices_choose_rows_but_not_controls(model, knockouts):
    rows = np.array([5, 3, 3])
    everything = model.get_latent_representation(knockouts)
    np.testing.assert_allclose(model.get_latent_representation(knockouts, rows), everything[rows], atol=1e-6)
    np.testing.assert_allclose(model.get_latent_representation(knockouts, batch_size=7), everything, atol=1e-6)


def test_modalities_with_different_observations_are_the_normal_case(mdata, model):
    assert not set(mdata["rna"].obs_names) & set(mdata["image"].obs_names)
    assert model.get_latent_representation().shape == (mdata["rna"].n_obs, 16)


def test_shared_observation_names_are_fine_too(mdata, setup, quiet):
    images = mdata["image"].copy()
    images.obs_names = mdata["rna"].obs_names[: images.n_obs]
    same = mudata.MuData({"rna": mdata["rna"].copy(), "image": images})
    SemiClip.setup_mudata(same, **setup)
    model = SemiClip(same)
    model.train(1, **quiet)
    assert model.get_latent_representation().shape == (mdata["rna"].n_obs, 16)


def test_other_data_can_be_attached_and_the_model_saved_and_loaded(model, mdata, tmp_path):
    other = mdata.copy()
    model.adata = other
    assert model.registry["setup_method_name"] == "setup_mudata"
    model.save(str(tmp_path / "model"))
    loaded = SemiClip.load(str(tmp_path / "model"), other, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_validation_is_on_and_never_shares_a_perturbation_with_training(model, mdata):
    groups = mdata["rna"].obs["perturbation"].to_numpy()
    assert len(model.validation_indices)
    assert not set(groups[model.train_indices]) & set(groups[model.validation_indices])
    assert "control" not in groups[np.concatenate([model.train_indices, model.validation_indices])]


def test_split_key_keeps_experiments_together(mdata, setup, quiet):
    rng = np.random.default_rng(0)
    mdata["rna"].obs["experiment"] = rng.integers(0, 5, mdata["rna"].n_obs)
    SemiClip.setup_mudata(mdata, **setup, split_key="experiment")
    model = SemiClip(mdata)
    model.train(1, train_size=0.6, **quiet)
    groups = mdata["rna"].obs["experiment"].to_numpy()
    assert len(set(groups[model.train_indices])) == 3
    assert len(set(groups[model.validation_indices])) == 2
    assert not set(groups[model.train_indices]) & set(groups[model.validation_indices])


def test_training_further_keeps_the_split(model, folder, mdata, quiet):
    held_out = model.validation_indices
    model.train(1, **quiet)
    np.testing.assert_array_equal(model.validation_indices, held_out)
    loaded = SemiClip.load(folder, mdata.copy(), accelerator="cpu")
    loaded.train(1, **quiet)
    np.testing.assert_array_equal(loaded.validation_indices, held_out)


def test_validation_size_leaves_a_test_set(untrained, quiet):
    untrained.train(1, train_size=0.5, validation_size=0.25, **quiet)
    assert [len(part) for part in (untrained.train_indices, untrained.validation_indices, untrained.test_indices)] == [
        12 * 12,
        6 * 12,
        6 * 12,
    ]


def test_one_held_out_perturbation_has_a_loss_but_no_rank(mdata, setup, quiet):
    setup["pair_on"] = ["perturbation"]
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata)
    model.train(1, train_size=0.99, **quiet)
    assert set(model.history) == {"train_loss", "validation_loss"}


@pytest.mark.parametrize("arguments", [{"train_size": 1.0}, {}])
def test_a_training_that_diverges_is_an_error(untrained, quiet, arguments):
    with pytest.raises(ValueError, match=r"training diverged in epoch \d: lower the learning rate, plan_kwargs="):
        untrained.train(5, plan_kwargs={"lr": 1e30}, **quiet, **arguments)
    assert not untrained.is_trained


@pytest.mark.parametrize("arguments", [{"max_epochs": 0}, {"batch_size": 1}])
def test_a_training_without_anything_to_contrast_is_refused(untrained, quiet, arguments):
    with pytest.raises(ValueError, match="max_epochs=.* must be at least 1 and batch_size=.* at least 2"):
        untrained.train(**{"max_epochs": 1, **arguments}, **quiet)


def test_a_query_without_controls_or_batches_says_so(model, knockouts):
    treated = knockouts[knockouts.obs["perturbation"] != "control"].copy()
    del treated.obs["batch"]
    with pytest.raises(KeyError, match="batch_key='batch' is not a column"):
        model.get_latent_representation(treated)
    with pytest.raises(ValueError, match=r"control label\(s\) control match no row.*or control=None"):
        model.get_latent_representation(treated, batch_key=None)
    assert np.isfinite(model.get_latent_representation(treated, batch_key=None, control=None)).all()


def test_data_for_a_trained_model_need_no_teacher_that_fits(model, folder, mdata):
    strangers = mdata.copy()
    strangers["image"].obs["perturbation"] = "stranger"
    loaded = SemiClip.load(folder, strangers, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_a_given_split_is_used(untrained, quiet):
    rows = np.flatnonzero((untrained.adata["rna"].obs["perturbation"] != "control").to_numpy())
    untrained.train(1, datasplitter_kwargs={"external_indexing": [rows[:100], rows[100:140]]}, **quiet)
    np.testing.assert_array_equal(untrained.train_indices, rows[:100])
    np.testing.assert_array_equal(untrained.validation_indices, rows[100:140])


def test_mini_batches_of_one_row_and_partial_ones_do_no_harm(untrained, quiet):
    rows = np.flatnonzero((untrained.adata["rna"].obs["perturbation"] != "control").to_numpy())
    untrained.train(
        2, batch_size=8, datasplitter_kwargs={"external_indexing": [rows[:17], rows[17:26]]}, **quiet
    )  # leaves one row over in training and nine in validation
    losses = np.concatenate([untrained.history[name].to_numpy(float) for name in ("train_loss", "validation_loss")])
    assert np.isfinite(losses).all()


def test_same_seed_same_bits_and_another_seed_other_weights(mdata, setup, quiet):
    def train(seed):
        scvi.settings.seed = seed
        SemiClip.setup_mudata(mdata, **setup)
        model = SemiClip(mdata, n_hidden=[16])
        model.train(3, batch_size=32, **quiet)
        return model.get_latent_representation(), model.history["train_loss"].to_numpy(float)

    try:
        (first, curve), (again, curve_again), (other, _) = train(1), train(1), train(2)
    finally:
        scvi.settings.seed = None
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(curve, curve_again)
    assert np.abs(first - other).max() > 1e-3


def test_what_the_base_class_offers_works(model, folder, capsys):
    model.to_device("cpu")
    assert str(model.device) == "cpu"
    model.view_anndata_setup()
    SemiClip.view_setup_args(folder)
    printed = capsys.readouterr().out
    assert "SemiClip" in printed
    assert "X_pca" in printed
    assert "adapter 8 → 64 → 16" in repr(model) + capsys.readouterr().out


def test_load_registry(model, folder):
    registry = SemiClip.load_registry(folder)
    assert registry["setup_args"]["student_rep"] == "X_pca"
    assert model.is_trained


def test_an_untrained_model_does_not_embed(untrained):
    with pytest.raises(RuntimeError, match="untrained"):
        untrained.get_latent_representation()


def test_a_query_is_neither_changed_nor_kept_in_memory(model, knockouts):
    before = (list(knockouts.obs), list(knockouts.obsm), list(knockouts.uns))
    model.get_latent_representation(knockouts)
    assert (list(knockouts.obs), list(knockouts.obsm), list(knockouts.uns)) == before
    query = knockouts.copy()
    seen = weakref.ref(query)
    model.get_latent_representation(query)
    del query
    gc.collect()
    assert seen() is None


def test_the_training_data_are_released_after_training(model):
    gc.collect()
    held = [thing for thing in gc.get_objects() if type(thing).__name__ == "PairedTensors"]
    assert not held


def test_the_teacher_is_only_read_and_only_the_adapter_learns(mdata, setup, quiet):
    before = mdata["image"].obsm["X_image"].copy(), mdata["rna"].obsm["X_pca"].copy()
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata, n_hidden=[16])
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.train(2, **quiet)
    np.testing.assert_array_equal(mdata["image"].obsm["X_image"], before[0])
    np.testing.assert_array_equal(mdata["rna"].obsm["X_pca"], before[1])
    assert set(weights) == {f"adapter.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    assert all(not torch.equal(weights[name], value) for name, value in model.module.state_dict().items())


def test_the_width_comes_from_the_teacher_and_few_keys_make_a_small_adapter(mdata, setup, monkeypatch):
    SemiClip.setup_mudata(mdata, **setup)
    assert [layer.out_features for layer in SemiClip(mdata).module.adapter[::2]] == [64, 16]
    assert [layer.out_features for layer in SemiClip(mdata, n_hidden=()).module.adapter[::2]] == [16]
    monkeypatch.setattr("semiclip.model._module.FEW_KEYS", 72)  # the study has as many
    many = SemiClip(mdata)
    assert [layer.out_features for layer in many.module.adapter[::2]] == [512, 1024, 16]
    assert many.init_params_["non_kwargs"]["n_hidden"] == [512, 1024]
