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

from semiclip import errors
from semiclip.model import Baseline, SemiClip
from semiclip.objectives import PRESETS

same = np.testing.assert_array_equal


@pytest.fixture
def folder(model, tmp_path):
    model.save(str(tmp_path / "model"))
    return str(tmp_path / "model")


def test_loading_with_data_gives_identical_embeddings_and_goes_on(model, folder, mdata, knockouts, quiet):
    loaded = SemiClip.load(folder, mdata.copy(), accelerator="cpu")
    same(loaded.get_latent_representation(), model.get_latent_representation())
    same(loaded.get_latent_representation(knockouts), model.get_latent_representation(knockouts))
    assert loaded.is_trained
    same(loaded.train_indices, model.train_indices)
    pd.testing.assert_frame_equal(loaded.history["validation_loss"], model.history["validation_loss"])
    held_out = model.validation_indices
    for trained in (model, loaded):
        trained.train(3, **quiet)
        assert trained.history["train_loss"].index.tolist() == [0, 1, 2, 3, 4]
        same(trained.validation_indices, held_out)


def test_loading_without_data_embeds_new_data_and_saves_again(model, folder, knockouts, refuses, tmp_path):
    loaded = SemiClip.load(folder, adata=False, accelerator="cpu")
    assert loaded.adata is None
    loaded.save(str(tmp_path / "again"))
    again = SemiClip.load(str(tmp_path / "again"), adata=False, accelerator="cpu")
    for copy in (loaded, again):
        same(copy.get_latent_representation(knockouts), model.get_latent_representation(knockouts))
    for use in (loaded.get_latent_representation, loaded.train):
        with refuses(errors.NoData):
            use()


def test_data_for_a_trained_model_need_no_teacher(model, folder, mdata, knockouts):
    for data in (mudata.MuData({"rna": knockouts}), knockouts):
        loaded = SemiClip.load(folder, data, accelerator="cpu")
        same(loaded.get_latent_representation(), model.get_latent_representation(knockouts))
    strangers = mdata.copy()
    strangers["image"].obs["perturbation"] = "stranger"
    loaded = SemiClip.load(folder, strangers, accelerator="cpu")
    same(loaded.get_latent_representation(), model.get_latent_representation())


def test_other_data_can_be_attached_and_saved_beside_the_model(model, mdata, tmp_path):
    expected = model.get_latent_representation()
    model.adata = mdata.copy()
    assert model.registry["setup_method_name"] == "setup_mudata"
    model.save(str(tmp_path / "model"), save_anndata=True)
    for data in (mdata.copy(), None):
        loaded = SemiClip.load(str(tmp_path / "model"), data, accelerator="cpu")
        same(loaded.get_latent_representation(), expected)


def test_what_the_base_class_offers_works(model, folder, capsys):
    model.to_device("cpu")
    assert str(model.device) == "cpu"
    model.view_anndata_setup()
    SemiClip.view_setup_args(folder)
    assert "X_pca" in capsys.readouterr().out
    assert "adapter 8 → 64 → 16" in repr(model) + capsys.readouterr().out
    assert SemiClip.load_registry(folder)["setup_args"]["student_rep"] == "X_pca"
    with pytest.raises(RuntimeError):  # it is not trained
        SemiClip(model.adata).get_latent_representation()


def test_a_query_needs_neither_teacher_nor_known_batches(model, knockouts):
    assert not set(knockouts.obs["batch"]) & set(model.adata["rna"].obs["batch"])
    embedded = model.get_latent_representation(knockouts)
    assert (embedded.shape, embedded.dtype) == ((knockouts.n_obs, 16), np.float32)
    same(model.get_latent_representation(mudata.MuData({"rna": knockouts})), embedded)
    # the correction is fitted on the query's own controls: an offset of a whole batch changes nothing
    moved = knockouts.copy()
    del moved.uns["semiclip"]["X_pca"]  # which describes the values before
    moved.obsm["X_pca"] = moved.obsm["X_pca"] + 100 * pd.factorize(moved.obs["batch"])[0][:, None]
    with pytest.warns(errors.SemiclipWarning):  # nothing tells which encoder made it
        np.testing.assert_allclose(model.get_latent_representation(moved), embedded, atol=2e-4)


def test_a_query_with_columns_of_other_names_or_without(model, knockouts, refuses):
    expected = model.get_latent_representation(knockouts)
    renamed = knockouts.copy()
    renamed.obs = renamed.obs.rename(columns={"perturbation": "gene", "batch": "plate"})
    renamed.obs["gene"] = renamed.obs["gene"].cat.rename_categories({"control": "non-targeting"})
    names = {"perturbation_key": "gene", "control": "non-targeting", "batch_key": "plate"}
    same(model.get_latent_representation(renamed, **names), expected)
    treated = knockouts[knockouts.obs["perturbation"] != "control"].copy()
    del treated.obs["batch"]
    for query in (renamed, treated):
        with refuses(errors.MissingColumn, key="batch", name="batch_key"):
            model.get_latent_representation(query)
    with refuses(errors.UnknownControl, labels=["control"]):
        model.get_latent_representation(treated, batch_key=None)
    assert np.isfinite(model.get_latent_representation(treated, batch_key=None, control=None)).all()


def test_embeddings_that_are_not_finite_or_of_another_width_are_refused(model, mdata, setup, knockouts, refuses):
    for value in (np.nan, np.inf):
        knockouts.obsm["X_pca"][[2, 7], 3] = value
        with refuses(errors.NotFinite, rows=knockouts.obs_names[[2, 7]].tolist(), where="obsm['X_pca']"):
            model.get_latent_representation(knockouts)
        mdata["image"].obsm["X_image"][4] = value
        with refuses(errors.NotFinite, rows=[mdata["image"].obs_names[4]]):
            SemiClip.setup_mudata(mdata, **setup)
    for rna in (knockouts, mdata["rna"]):
        rna.obsm["X_pca"] = rna.obsm["X_pca"][:, :3]
    with refuses(errors.Mismatch, got=3, expected=8):
        model.get_latent_representation(knockouts)
    with refuses(errors.Mismatch, got=3, expected=8):
        model.adata = mdata.copy()


def test_any_storage_gives_the_same_numbers(model, knockouts, tmp_path):
    plain = knockouts.obsm["X_pca"] = knockouts.obsm["X_pca"].astype(np.float16).astype(np.float32)
    expected = model.get_latent_representation(knockouts)
    storages = [plain.astype(kind) for kind in (np.float64, np.float16)]
    storages += [kind(plain) for kind in (sparse.csr_matrix, sparse.csr_array, np.asfortranarray)]
    for stored in (*storages, pd.DataFrame(plain, index=knockouts.obs_names), np.repeat(plain, 2, axis=1)[:, ::2]):
        knockouts.obsm["X_pca"] = stored
        np.testing.assert_allclose(model.get_latent_representation(knockouts), expected, atol=1e-5)

    knockouts.obsm["X_pca"] = plain
    view = knockouts[knockouts.obs["batch"] == knockouts.obs["batch"].iloc[0]]
    same(model.get_latent_representation(view), model.get_latent_representation(view.copy()))
    assert view.is_view, "the user's view became an object of its own"
    knockouts.write(tmp_path / "query.h5ad")
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    same(model.get_latent_representation(backed), model.get_latent_representation(knockouts))
    backed.file.close()


def test_indices_choose_rows_but_not_controls(model, knockouts):
    everything = model.get_latent_representation(knockouts)
    for rows, options in (([5, 3, 3], {"indices": [5, 3, 3]}), (slice(None), {"batch_size": 7})):
        embedded = model.get_latent_representation(knockouts, **options)
        np.testing.assert_allclose(embedded, everything[rows], atol=1e-6)


def read_for_training():
    """Return what trainings read and is still in memory."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing).__name__ == "PairedTensors"]


@pytest.fixture
def kept_by_others():
    return read_for_training()


def test_a_query_is_neither_changed_nor_kept_in_memory(kept_by_others, model, knockouts):
    query = knockouts.copy()
    model.get_latent_representation(query)
    for name in ("obs", "obsm", "uns"):
        assert list(getattr(query, name)) == list(getattr(knockouts, name))
    seen = weakref.ref(query)
    del query
    gc.collect()
    assert seen() is None
    # neither are the data of training
    assert all(any(thing is other for other in kept_by_others) for thing in read_for_training())


@pytest.mark.parametrize(
    ("split_key", "sizes", "n_groups"),
    [
        (None, {}, (22, 2, 0)),
        (None, {"train_size": 0.5, "validation_size": 0.25}, (12, 6, 6)),
        ("experiment", {"train_size": 0.6}, (3, 2, 0)),
    ],
)
@pytest.mark.parametrize("model_cls", [SemiClip, Baseline])
def test_a_group_is_on_one_side_of_the_split(mdata, setup, quiet, model_cls, split_key, sizes, n_groups):
    obs, column = mdata["rna"].obs, split_key or "perturbation"
    obs["experiment"] = np.random.default_rng(0).integers(0, 5, len(obs))
    model_cls.setup_mudata(mdata, **setup, split_key=split_key)
    model = model_cls(mdata)
    model.train(1, **sizes, **quiet)
    parts = [model.train_indices, model.validation_indices, model.test_indices]
    same(np.sort(np.concatenate(parts)), np.flatnonzero(obs["perturbation"] != "control"))
    groups = [set(obs[column].to_numpy()[part]) for part in parts]
    assert tuple(map(len, groups)) == n_groups
    assert len(set.union(*groups)) == sum(n_groups)


def test_one_held_out_perturbation_has_a_loss_but_no_rank(mdata, setup, quiet):
    images = mdata["image"].copy()
    images.obs_names = mdata["rna"].obs_names[: images.n_obs]  # modalities may share names, but need not
    shared = mudata.MuData({"rna": mdata["rna"].copy(), "image": images})
    SemiClip.setup_mudata(shared, **{**setup, "pair_on": ["perturbation"]})
    model = SemiClip(shared)
    model.train(1, train_size=0.99, **quiet)
    assert set(model.history) == {"train_loss", "validation_loss"}
    assert model.get_latent_representation().shape == (mdata["rna"].n_obs, 16)


@pytest.mark.parametrize("train_size", [1.0, 0.9])  # without and with validation
def test_training_that_diverges_or_has_nothing_to_contrast_is_an_error(untrained, quiet, refuses, train_size):
    for name, value in (("max_epochs", 0), ("batch_size", 1)):
        with refuses(errors.BadValue, name=name, value=value):
            untrained.train(**{name: value}, **quiet)
    with refuses(errors.Diverged, stage="training") as caught:
        untrained.train(5, train_size=train_size, plan_kwargs={"lr": 1e30}, **quiet)
    assert caught.value.epoch in range(5)
    assert not untrained.is_trained


def test_a_remainder_of_one_row_does_no_harm(untrained, quiet):
    rows = np.flatnonzero((untrained.adata["rna"].obs["perturbation"] != "control").to_numpy())
    split = [rows[:17], rows[17:26]]  # leaves one row over in training and nine in validation
    untrained.train(2, batch_size=8, datasplitter_kwargs={"external_indexing": split}, **quiet)
    for curve in ("train_loss", "validation_loss"):
        assert np.isfinite(untrained.history[curve].to_numpy(float)).all()
    for part, rows in zip((untrained.train_indices, untrained.validation_indices), split, strict=True):
        same(part, rows)


def test_same_seed_same_bits_and_another_seed_other_weights(mdata, setup, quiet):
    SemiClip.setup_mudata(mdata, **setup)

    def train(seed):
        scvi.settings.seed = seed
        model = SemiClip(mdata, n_hidden=[16])
        model.train(3, batch_size=32, **quiet)
        return model.get_latent_representation(), model.history["train_loss"].to_numpy(float)

    try:
        first, again, other = train(1), train(1), train(2)
    finally:
        scvi.settings.seed = None
    for values, repeated in zip(first, again, strict=True):
        same(values, repeated)
    assert np.abs(first[0] - other[0]).max() > 1e-3


def test_the_teacher_is_only_read_and_only_the_adapter_learns(mdata, setup, quiet):
    before = mdata.copy()
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata, n_hidden=[16])
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.train(2, **quiet)
    for side, rep in (("image", "X_image"), ("rna", "X_pca")):
        same(mdata[side].obsm[rep], before[side].obsm[rep])
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


def test_arguments_by_their_old_names_warn_and_mean_the_same(mdata, setup, quiet):
    student, rng = mdata["rna"], np.random.default_rng(0)
    control = (student.obs["perturbation"] == "control").to_numpy()[:, None]
    plain = np.tile(student.obsm["X_pca"], 2)  # beside each other
    student.obsm["X_views"] = np.where(control, plain, plain + rng.normal(size=plain.shape))
    SemiClip.setup_mudata(mdata, **setup)

    def train(**kwargs):
        torch.manual_seed(0)
        model = SemiClip(mdata, n_hidden=[16])
        model.train(2, **quiet, **kwargs)
        return model

    new, without = train(views="X_views", preset="paper"), train(preset="paper")
    with pytest.warns(FutureWarning) as warned:
        old = train(augment="X_views", profile="paper")
    assert len([warning for warning in warned if warning.filename == __file__]) == 2
    assert old.train_params_ == new.train_params_
    assert (new.train_params_["views"], new.train_params_["lr"]) == (["X_views"], PRESETS["semiclip"]["paper"]["lr"])
    embedded = [model.get_latent_representation() for model in (old, new, without)]
    same(*embedded[:2])
    assert np.abs(embedded[2] - embedded[1]).max() > 0
