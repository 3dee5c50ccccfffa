"""A query must be embedded as the training data were: by the same encoder, with the same columns."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.model import Baseline, SemiClip

COLUMNS = [f"P{i}" for i in range(8)]


def own_pca(adata):
    """Replace the embedding by the components of the data themselves."""
    before = adata.obsm["X_pca"]
    scl.pp.encode(adata, encoder="pca", n_components=8)
    assert np.abs(adata.obsm["X_pca"] - before).max() > 0.1


def forget(adata):
    del adata.uns["semiclip"]


def fingerprint(adata):
    return adata.uns["semiclip"]["X_pca"]["fingerprint"]


def name_columns(adata, columns=COLUMNS):
    adata.obsm["X_pca"] = pd.DataFrame(np.asarray(adata.obsm["X_pca"]), index=adata.obs_names, columns=list(columns))


def reorder(adata, columns):
    adata.obsm["X_pca"] = adata.obsm["X_pca"][list(columns)]


def said(caplog):
    return [record.args[0] for record in caplog.records if record.name == "semiclip._sides"]


def saved_and_loaded(model, tmp_path, adata=False):
    model.save(str(tmp_path / "model"))
    return type(model).load(str(tmp_path / "model"), adata, accelerator="cpu")


@pytest.fixture
def train(setup, quiet):
    def of(mdata, cls=SemiClip, **kwargs):
        cls.setup_mudata(mdata, **setup)
        model = cls(mdata, **kwargs)
        model.train(2, **(quiet if cls is SemiClip else {}))
        return model

    return of


@pytest.fixture
def named(mdata, train):
    """A model whose training data name their columns."""
    name_columns(mdata["rna"])
    forget(mdata["rna"])
    return train(mdata)


@pytest.fixture
def other_encoder(refuses, small_study):
    """Expect the error of a query by an encoder of its own."""

    def refused(adata):
        return refuses(errors.Mismatch, got=fingerprint(adata), expected=fingerprint(small_study.mdata["rna"]))

    return refused


def test_an_encoder_of_the_query_itself_is_refused(model, knockouts, small_study, other_encoder):
    expected = model.get_latent_representation(knockouts)
    own_pca(knockouts)
    with other_encoder(knockouts) as caught:
        scl.tl.embed(knockouts, model)
    assert "scl.pp.encode(query, encoder=encoder, key_added='X_pca')" in caught.value.way_out
    assert "X_semiclip" not in knockouts.obsm
    with other_encoder(knockouts):
        model.get_latent_representation(mudata.MuData({"rna": knockouts}))
    encoder = scl.pp.encode(small_study.mdata["rna"].copy(), encoder="pca", n_components=8)  # the way out
    scl.pp.encode(knockouts, encoder=encoder, key_added="X_pca")
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


@pytest.mark.parametrize("with_data", [False, True])
def test_a_loaded_model_refuses_it_too(model, mdata, knockouts, tmp_path, with_data, other_encoder):
    expected = model.get_latent_representation(knockouts)
    loaded = saved_and_loaded(model, tmp_path, mdata.copy() if with_data else False)
    np.testing.assert_array_equal(loaded.get_latent_representation(knockouts), expected)
    own_pca(knockouts)
    for again in (loaded, saved_and_loaded(loaded, tmp_path / "again")):
        with other_encoder(knockouts):
            again.get_latent_representation(knockouts)


def test_records_and_encoders_in_files_are_known_again(model, mdata, knockouts, tmp_path, through_h5mu, other_encoder):
    expected = model.get_latent_representation(knockouts)
    knockouts.write_h5ad(tmp_path / "same.h5ad")
    own_pca(knockouts)
    queries = [through_h5mu(mudata.MuData({"rna": knockouts}))]
    for suffix in ("h5ad", "zarr"):
        getattr(knockouts, f"write_{suffix}")(tmp_path / f"other.{suffix}")
        queries.append(getattr(anndata, f"read_{suffix}")(tmp_path / f"other.{suffix}"))
    for query in queries:
        with other_encoder(knockouts):
            model.get_latent_representation(query)
    same = anndata.read_h5ad(tmp_path / "same.h5ad")
    np.testing.assert_array_equal(model.get_latent_representation(same), expected)
    loaded = saved_and_loaded(model, tmp_path, through_h5mu(mdata))
    np.testing.assert_array_equal(loaded.get_latent_representation(same), expected)

    encoder = scl.pp.encode(mdata["rna"].copy(), encoder="pca", n_components=8)
    encoder.save(tmp_path / "encoder")
    scl.pp.encode(knockouts, encoder=scl.encoders.load(tmp_path / "encoder"))
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


def test_views_and_copies_of_the_query_keep_the_record(model, knockouts, caplog, other_encoder):
    kept = (knockouts.obs["batch"] == knockouts.obs["batch"].iloc[0]).to_numpy()
    expected = model.get_latent_representation(knockouts[kept])
    np.testing.assert_array_equal(model.get_latent_representation(knockouts[kept].copy()), expected)
    assert not said(caplog)
    own_pca(knockouts)
    for query in (knockouts[kept], knockouts[kept].copy(), knockouts.copy()):
        with other_encoder(knockouts):
            model.get_latent_representation(query)


def test_a_query_without_a_record_is_warned_of_once_and_embedded(model, knockouts, caplog):
    expected = model.get_latent_representation(knockouts)
    assert not said(caplog)
    queries = [knockouts.copy() for _ in range(3)]
    forget(queries[0])
    del queries[1].uns["semiclip"]["X_pca"]["fingerprint"]  # by an earlier version, or somebody else's encoder
    queries[2].uns["semiclip"] = "something else"
    for query in queries:
        caplog.clear()
        np.testing.assert_array_equal(model.get_latent_representation(query), expected)
        assert said(caplog) == ["X_pca"]
    joined = anndata.concat([knockouts, knockouts], keys=["a", "b"], index_unique="-")
    caplog.clear()
    np.testing.assert_allclose(model.get_latent_representation(joined)[: len(expected)], expected, atol=1e-4)
    assert said(caplog) == ["X_pca"]


def test_training_data_without_a_record_ask_for_nothing(mdata, train, knockouts, caplog, tmp_path):
    forget(mdata["rna"])
    model = train(mdata)
    own_pca(knockouts)
    embedded = model.get_latent_representation(knockouts)
    forget(knockouts)
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), embedded)
    np.testing.assert_array_equal(saved_and_loaded(model, tmp_path).get_latent_representation(knockouts), embedded)
    assert not said(caplog)


def test_models_saved_before_there_were_fingerprints_still_load(model, mdata, knockouts, caplog, tmp_path):
    expected = model.get_latent_representation(knockouts)
    learned = model.registry["field_registries"]["student"]["state_registry"]
    assert learned.pop("fingerprint") == fingerprint(mdata["rna"])
    assert list(learned) == ["column_names"]  # all that there was
    for data in (False, mdata.copy()):
        loaded = saved_and_loaded(model, tmp_path / str(bool(data)), data)
        np.testing.assert_array_equal(loaded.get_latent_representation(knockouts), expected)
    own_pca(knockouts)
    assert loaded.get_latent_representation(knockouts).shape == expected.shape
    assert not said(caplog)


def test_data_that_are_attached_pass_the_same_check(model, mdata, tmp_path, other_encoder):
    other = mdata.copy()
    scl.pp.encode(other["rna"], encoder="pca", n_components=8, normalize=False)
    with other_encoder(other["rna"]):
        saved_and_loaded(model, tmp_path, other)
    with other_encoder(other["rna"]):
        model.adata = other
    forget(other["rna"])
    SemiClip.load(str(tmp_path / "model"), other, accelerator="cpu")


def test_training_data_that_were_encoded_again_must_be_set_up_again(mdata, quiet, untrained, train, other_encoder):
    scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, normalize=False)
    with other_encoder(mdata["rna"]):
        untrained.train(1, **quiet)
    assert np.isfinite(train(mdata).get_latent_representation()).all()


def test_another_setup_of_the_same_data_does_not_replace_what_a_model_knows(model, mdata, setup, other_encoder):
    expected = model.get_latent_representation()
    Baseline.setup_mudata(mdata, **setup)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, normalize=False)
    Baseline.setup_mudata(mdata, **setup)
    with other_encoder(mdata["rna"]):
        model.get_latent_representation()


@pytest.mark.parametrize("is_named", [False, True])
def test_baselines_check_a_query_like_any_model(mdata, train, knockouts, is_named, tmp_path, other_encoder):
    if is_named:
        name_columns(mdata["rna"])
    model = train(mdata, Baseline, method="ridge")
    expected = model.get_latent_representation(knockouts)
    query = knockouts.copy()
    name_columns(query)
    reorder(query, COLUMNS[::-1])
    assert np.allclose(model.get_latent_representation(query), expected, atol=1e-5) == is_named
    own_pca(knockouts)
    with other_encoder(knockouts):
        saved_and_loaded(model, tmp_path).get_latent_representation(knockouts)


def test_one_anndata_with_both_sides(small_study, quiet, knockouts, other_encoder):
    adata = small_study.mdata["rna"].copy()
    adata.obsm["X_image"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    keys = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    SemiClip.setup_anndata(adata, student_rep="X_pca", teacher_rep="X_image", **keys)
    model = SemiClip(adata)
    model.train(1, **quiet)
    assert model.get_latent_representation(knockouts).shape == (knockouts.n_obs, 5)
    own_pca(knockouts)
    with other_encoder(knockouts):
        model.get_latent_representation(knockouts)


def test_named_columns_in_another_order_mean_the_same(named, knockouts, mdata, tmp_path):
    forget(knockouts)
    plain = named.get_latent_representation(knockouts)
    name_columns(knockouts)
    np.testing.assert_array_equal(named.get_latent_representation(knockouts), plain)
    query = knockouts.copy()
    reorder(query, COLUMNS[::-1])
    np.testing.assert_allclose(named.get_latent_representation(query), plain, atol=1e-5)
    backwards = np.ascontiguousarray(query.obsm["X_pca"].to_numpy())
    assert list(query.obsm["X_pca"]) == COLUMNS[::-1], "a query is only read"

    query.write_h5ad(tmp_path / "query.h5ad")
    loaded = saved_and_loaded(named, tmp_path)
    embedded = loaded.get_latent_representation(anndata.read_h5ad(tmp_path / "query.h5ad"))
    np.testing.assert_allclose(embedded, plain, atol=1e-5)
    expected = named.get_latent_representation()
    other = mdata.copy()
    reorder(other["rna"], np.random.default_rng(1).permutation(COLUMNS))
    attached = SemiClip.load(str(tmp_path / "model"), other, accelerator="cpu")
    np.testing.assert_allclose(attached.get_latent_representation(), expected, atol=1e-5)

    query.obsm["X_pca"] = backwards  # without names, columns go by position
    assert np.abs(named.get_latent_representation(query) - plain).max() > 0.1


@pytest.mark.parametrize(
    "columns", [[f"Q{i}" for i in range(8)], [*COLUMNS[:7], "PC8"], [*COLUMNS[:7], "P0"], range(8)]
)
def test_columns_of_other_names_are_refused(named, mdata, knockouts, tmp_path, refuses, columns):
    data = {"got": [str(name) for name in columns], "expected": COLUMNS}
    name_columns(knockouts, columns)
    for model in (named, saved_and_loaded(named, tmp_path)):
        with refuses(errors.Mismatch, **data):
            model.get_latent_representation(knockouts)
    other = mdata.copy()
    other["rna"].obsm["X_pca"].columns = list(columns)
    with refuses(errors.Mismatch, **data):
        named.adata = other


def test_names_of_the_query_alone_are_no_matter(model, mdata, knockouts, tmp_path):
    expected = model.get_latent_representation(knockouts)
    name_columns(knockouts)
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)
    other = mdata.copy()
    name_columns(other["rna"])
    loaded = saved_and_loaded(model, tmp_path, other)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_numbers_as_names_and_names_that_repeat(mdata, train, knockouts, refuses):
    forget(mdata["rna"])
    name_columns(mdata["rna"], range(8))
    model = train(mdata)
    plain = model.get_latent_representation(knockouts)
    name_columns(knockouts, map(str, range(8)))  # what a file makes of them
    reorder(knockouts, map(str, [3, 1, 0, 2, 7, 6, 5, 4]))
    np.testing.assert_allclose(model.get_latent_representation(knockouts), plain, atol=1e-5)

    twice = [*COLUMNS[:7], "P0"]
    name_columns(mdata["rna"], twice)
    model = train(mdata)
    name_columns(knockouts, twice)
    assert np.isfinite(model.get_latent_representation(knockouts)).all()
    knockouts.obsm["X_pca"] = knockouts.obsm["X_pca"].iloc[:, ::-1]
    with refuses(errors.Mismatch, got=twice[::-1], expected=twice):
        model.get_latent_representation(knockouts)


def test_columns_of_the_teacher_are_read_by_name_in_further_training(mdata, train, tmp_path, refuses):
    images = mdata["image"]
    names = [f"I{i}" for i in range(images.obsm["X_image"].shape[1])]
    images.obsm["X_image"] = pd.DataFrame(images.obsm["X_image"], index=images.obs_names, columns=names)
    model = train(mdata, Baseline, method="ridge")
    other = mdata.copy()
    other["image"].obsm["X_image"] = other["image"].obsm["X_image"][names[::-1]]
    loaded = saved_and_loaded(model, tmp_path, other)
    loaded.train()
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-5)
    other["image"].obsm["X_image"].columns = [f"J{i}" for i in range(len(names))]
    with refuses(errors.Mismatch, expected=names):
        loaded.train()
