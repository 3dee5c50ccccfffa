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


def name_columns(adata, columns=COLUMNS):
    adata.obsm["X_pca"] = pd.DataFrame(np.asarray(adata.obsm["X_pca"]), index=adata.obs_names, columns=list(columns))


def reorder(adata, columns):
    adata.obsm["X_pca"] = adata.obsm["X_pca"][list(columns)]


def saved_and_loaded(model, tmp_path, adata=False):
    model.save(str(tmp_path / "model"))
    return type(model).load(str(tmp_path / "model"), adata, accelerator="cpu")


@pytest.fixture
def train(setup, quiet):
    def of(mdata, cls=SemiClip):
        cls.setup_mudata(mdata, **setup)
        model = cls(mdata)
        model.train(2, **quiet)
        return model

    return of


@pytest.fixture
def other_encoder(refuses, small_study):
    """Expect the error of data by an encoder of their own."""

    def refused(adata):
        mine, expected = (data.uns["semiclip"]["X_pca"]["fingerprint"] for data in (adata, small_study.mdata["rna"]))
        return refuses(errors.Mismatch, got=mine, expected=expected)

    return refused


@pytest.mark.parametrize("cls", [SemiClip, Baseline])
def test_a_query_by_its_own_encoder_is_refused_in_any_form(
    mdata, train, knockouts, tmp_path, through_h5mu, other_encoder, warned, cls
):
    model = train(mdata, cls)
    loaded = saved_and_loaded(model, tmp_path)
    models = [model, saved_and_loaded(loaded, tmp_path / "again")]
    models.append(saved_and_loaded(model, tmp_path / "with data", through_h5mu(mdata)))

    def forms():
        knockouts.write_h5ad(tmp_path / "query.h5ad")
        knockouts.write_zarr(tmp_path / "query.zarr")
        yield from (knockouts, knockouts[:], knockouts[:].copy(), mudata.MuData({"rna": knockouts}))
        yield through_h5mu(mudata.MuData({"rna": knockouts}))
        yield anndata.read_h5ad(tmp_path / "query.h5ad")
        yield anndata.read_zarr(tmp_path / "query.zarr")

    expected = model.get_latent_representation(knockouts)
    for query in forms():
        for again in models:
            np.testing.assert_array_equal(again.get_latent_representation(query), expected)
    assert not warned()
    own_pca(knockouts)
    for query in forms():
        for again in models:
            with other_encoder(knockouts):
                again.get_latent_representation(query)
    with other_encoder(knockouts) as caught:
        scl.tl.embed(knockouts, model)
    assert list(knockouts.obsm) == ["X_pca"]
    assert "scl.pp.encode(query, encoder=encoder, key_added='X_pca')" in caught.value.way_out
    fitted = scl.pp.encode(mdata["rna"].copy(), encoder="pca", n_components=8)  # the way out
    fitted.save(tmp_path / "encoder")
    for encoder in (fitted, scl.encoders.load(tmp_path / "encoder")):
        scl.pp.encode(knockouts, encoder=encoder, key_added="X_pca")
        np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


def test_a_query_without_a_record_is_warned_of_once_and_embedded(model, knockouts, warned):
    expected = model.get_latent_representation(knockouts)
    queries = [knockouts.copy() for _ in range(3)]
    del queries[0].uns["semiclip"]
    del queries[1].uns["semiclip"]["X_pca"]["fingerprint"]  # by an earlier version, or somebody else's encoder
    queries[2].uns["semiclip"] = "something else"
    queries.append(anndata.concat([knockouts, knockouts], keys=["a", "b"], index_unique="-"))
    name_columns(queries[0])  # which are no matter where the training data have none
    for query in queries:
        embedded = model.get_latent_representation(query)
        np.testing.assert_allclose(embedded[: len(expected)], expected, atol=1e-4 if query is queries[3] else 0)
        (message,) = warned()
        assert "obsm['X_pca']" in message


@pytest.mark.parametrize("earlier", [False, True])
def test_training_data_without_a_record_ask_for_nothing(mdata, train, knockouts, warned, tmp_path, earlier):
    if not earlier:
        del mdata["rna"].uns["semiclip"]
    model = train(mdata)
    if earlier:  # models saved before there were fingerprints still load
        learned = model.registry["field_registries"]["student"]["state_registry"]
        assert learned.pop("fingerprint") == mdata["rna"].uns["semiclip"]["X_pca"]["fingerprint"]
        assert list(learned) == ["column_names"]  # all that there was
        model = saved_and_loaded(model, tmp_path / "earlier", mdata.copy())
    own_pca(knockouts)
    embedded = model.get_latent_representation(knockouts)
    del knockouts.uns["semiclip"]
    for again in (model, saved_and_loaded(model, tmp_path)):
        np.testing.assert_array_equal(again.get_latent_representation(knockouts), embedded)
    assert not warned()


def test_data_that_are_attached_or_encoded_again_pass_the_same_check(
    model, mdata, setup, quiet, train, tmp_path, other_encoder
):
    expected = model.get_latent_representation()
    Baseline.setup_mudata(mdata, **setup)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    other = mdata.copy()
    scl.pp.encode(other["rna"], encoder="pca", n_components=8, normalize=False)
    with other_encoder(other["rna"]):
        saved_and_loaded(model, tmp_path, other)
    with other_encoder(other["rna"]):
        model.adata = other
    scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, normalize=False)
    Baseline.setup_mudata(mdata, **setup)  # which does not replace what the model knows
    with other_encoder(mdata["rna"]):
        model.get_latent_representation()
    with other_encoder(mdata["rna"]):
        model.train(1, **quiet)
    assert np.isfinite(train(mdata).get_latent_representation()).all()
    del other["rna"].uns["semiclip"]
    SemiClip.load(str(tmp_path / "model"), other, accelerator="cpu")


def test_one_anndata_with_both_sides(small_study, setup, knockouts, other_encoder):
    adata = small_study.mdata["rna"].copy()
    adata.obsm["X_image"] = adata.X
    del setup["pair_on"]
    Baseline.setup_anndata(adata, **setup)
    model = Baseline(adata)
    model.train()
    assert model.get_latent_representation(knockouts).shape == (knockouts.n_obs, adata.n_vars)
    own_pca(knockouts)
    with other_encoder(knockouts):
        model.get_latent_representation(knockouts)


@pytest.mark.parametrize("cls", [SemiClip, Baseline])
def test_named_columns_in_another_order_mean_the_same(mdata, train, knockouts, tmp_path, cls):
    for adata in (mdata["rna"], knockouts):
        del adata.uns["semiclip"]
    name_columns(mdata["rna"])
    model = train(mdata, cls)
    expected, plain = model.get_latent_representation(), model.get_latent_representation(knockouts)
    name_columns(knockouts)
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), plain)
    reorder(knockouts, COLUMNS[::-1])
    np.testing.assert_allclose(model.get_latent_representation(knockouts), plain, atol=1e-5)
    assert list(knockouts.obsm["X_pca"]) == COLUMNS[::-1], "a query is only read"

    knockouts.write_h5ad(tmp_path / "query.h5ad")
    embedded = saved_and_loaded(model, tmp_path).get_latent_representation(anndata.read_h5ad(tmp_path / "query.h5ad"))
    np.testing.assert_allclose(embedded, plain, atol=1e-5)
    other = mdata.copy()
    reorder(other["rna"], np.random.default_rng(1).permutation(COLUMNS))
    attached = saved_and_loaded(model, tmp_path / "attached", other)
    np.testing.assert_allclose(attached.get_latent_representation(), expected, atol=1e-5)

    knockouts.obsm["X_pca"] = np.ascontiguousarray(knockouts.obsm["X_pca"])  # without names, columns go by position
    assert np.abs(model.get_latent_representation(knockouts) - plain).max() > 0.1


@pytest.mark.parametrize(
    "columns", [[f"Q{i}" for i in range(8)], [*COLUMNS[:7], "PC8"], [*COLUMNS[:7], "P0"], range(8)]
)
def test_columns_of_other_names_are_refused(mdata, train, knockouts, tmp_path, refuses, columns):
    name_columns(mdata["rna"])
    model, data = train(mdata), {"got": [str(name) for name in columns], "expected": COLUMNS}
    name_columns(knockouts, columns)
    for again in (model, saved_and_loaded(model, tmp_path)):
        with refuses(errors.Mismatch, **data):
            again.get_latent_representation(knockouts)
    other = mdata.copy()
    name_columns(other["rna"], columns)
    with refuses(errors.Mismatch, **data):
        model.adata = other


def test_numbers_as_names_and_names_that_repeat(mdata, train, knockouts, refuses):
    name_columns(mdata["rna"], range(8))
    model = train(mdata)
    plain = model.get_latent_representation(knockouts)
    name_columns(knockouts, map(str, range(8)))  # what a file makes of them
    reorder(knockouts, "31027654")
    np.testing.assert_allclose(model.get_latent_representation(knockouts), plain, atol=1e-5)
    twice = [*COLUMNS[:7], "P0"]
    for adata in (mdata["rna"], knockouts):
        name_columns(adata, twice)
    model = train(mdata)
    assert np.isfinite(model.get_latent_representation(knockouts)).all()
    name_columns(knockouts, twice[::-1])
    with refuses(errors.Mismatch, got=twice[::-1], expected=twice):
        model.get_latent_representation(knockouts)


def test_columns_of_the_teacher_are_read_by_name_in_further_training(mdata, train, tmp_path, refuses):
    images = mdata["image"]
    names = [f"I{i}" for i in range(images.obsm["X_image"].shape[1])]
    images.obsm["X_image"] = pd.DataFrame(images.obsm["X_image"], index=images.obs_names, columns=names)
    model = train(mdata, Baseline)
    other = mdata.copy()
    other["image"].obsm["X_image"] = other["image"].obsm["X_image"][names[::-1]]
    loaded = saved_and_loaded(model, tmp_path, other)
    loaded.train()
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-5)
    other["image"].obsm["X_image"].columns = [f"J{i}" for i in range(len(names))]
    with refuses(errors.Mismatch, expected=names):
        loaded.train()
