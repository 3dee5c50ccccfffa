"""A query must be embedded as the training data were: by the same encoder, with the same columns."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.model import Baseline, SemiClip

OTHER = r"obsm\['X_pca'\] was made by another encoder than the one that the model was trained with"
COLUMNS = [f"P{i}" for i in range(8)]


def own_pca(adata):
    """Replace the embedding by the components of the data themselves."""
    before = adata.obsm["X_pca"]
    scl.pp.encode(adata, encoder="pca", n_components=8)
    assert np.abs(adata.obsm["X_pca"] - before).max() > 0.1


def forget(adata):
    del adata.uns["semiclip"]


def name_columns(adata, columns=COLUMNS):
    adata.obsm["X_pca"] = pd.DataFrame(np.asarray(adata.obsm["X_pca"]), index=adata.obs_names, columns=list(columns))


def reorder(adata, columns):
    adata.obsm["X_pca"] = adata.obsm["X_pca"][list(columns)]


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "semiclip._sides"]


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


def test_an_encoder_of_the_query_itself_is_refused(model, knockouts, small_study):
    expected = model.get_latent_representation(knockouts)
    assert "X_semiclip" not in knockouts.obsm
    own_pca(knockouts)
    with pytest.raises(ValueError, match=OTHER) as error:
        scl.tl.embed(knockouts, model)
    way_out = "scl.pp.encode (or scl.pp.expression)(query, encoder=encoder, key_added='X_pca')"
    assert f"encoder = scl.pp.encode(train, ...) once, then {way_out}" in str(error.value)
    assert "X_semiclip" not in knockouts.obsm
    with pytest.raises(ValueError, match=OTHER):
        model.get_latent_representation(mudata.MuData({"rna": knockouts}))
    encoder = scl.pp.encode(small_study.mdata["rna"].copy(), encoder="pca", n_components=8)  # the way out
    scl.pp.encode(knockouts, encoder=encoder, key_added="X_pca")
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


@pytest.mark.parametrize("with_data", [False, True])
def test_a_loaded_model_refuses_it_too(model, mdata, knockouts, tmp_path, with_data):
    expected = model.get_latent_representation(knockouts)
    loaded = saved_and_loaded(model, tmp_path, mdata.copy() if with_data else False)
    np.testing.assert_array_equal(loaded.get_latent_representation(knockouts), expected)
    own_pca(knockouts)
    with pytest.raises(ValueError, match=OTHER):
        loaded.get_latent_representation(knockouts)
    again = saved_and_loaded(loaded, tmp_path / "again")
    with pytest.raises(ValueError, match=OTHER):
        again.get_latent_representation(knockouts)


def test_records_and_encoders_in_files_are_known_again(model, mdata, knockouts, tmp_path, through_h5mu):
    expected = model.get_latent_representation(knockouts)
    knockouts.write_h5ad(tmp_path / "same.h5ad")
    own_pca(knockouts)
    for suffix in ("h5ad", "zarr"):
        getattr(knockouts, f"write_{suffix}")(tmp_path / f"other.{suffix}")
        with pytest.raises(ValueError, match=OTHER):
            model.get_latent_representation(getattr(anndata, f"read_{suffix}")(tmp_path / f"other.{suffix}"))
    with pytest.raises(ValueError, match=OTHER):
        model.get_latent_representation(through_h5mu(mudata.MuData({"rna": knockouts})))
    same = anndata.read_h5ad(tmp_path / "same.h5ad")
    np.testing.assert_array_equal(model.get_latent_representation(same), expected)
    loaded = saved_and_loaded(model, tmp_path, through_h5mu(mdata))
    np.testing.assert_array_equal(loaded.get_latent_representation(same), expected)

    encoder = scl.pp.encode(mdata["rna"].copy(), encoder="pca", n_components=8)
    encoder.save(tmp_path / "encoder")
    scl.pp.encode(knockouts, encoder=scl.encoders.load(tmp_path / "encoder"))
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


def test_views_and_copies_of_the_query_keep_the_record(model, knockouts, caplog):
    kept = (knockouts.obs["batch"] == knockouts.obs["batch"].iloc[0]).to_numpy()
    expected = model.get_latent_representation(knockouts[kept])
    np.testing.assert_array_equal(model.get_latent_representation(knockouts[kept].copy()), expected)
    assert not said(caplog)
    own_pca(knockouts)
    for query in (knockouts[kept], knockouts[kept].copy(), knockouts.copy()):
        with pytest.raises(ValueError, match=OTHER):
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
        assert said(caplog) == [
            "obsm['X_pca'] does not tell which encoder made it; the model needs the one of its training data: "
            "scl.pp.encode (or scl.pp.expression)(query, encoder=encoder, key_added='X_pca')"
        ]
    joined = anndata.concat([knockouts, knockouts], keys=["a", "b"], index_unique="-")
    caplog.clear()
    np.testing.assert_allclose(model.get_latent_representation(joined)[: len(expected)], expected, atol=1e-4)
    assert len(said(caplog)) == 1


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
    known = model.registry["field_registries"]["student"]["state_registry"]
    assert known.pop("fingerprint") == mdata["rna"].uns["semiclip"]["X_pca"]["fingerprint"]
    assert list(known) == ["column_names"]  # all that there was
    for data in (False, mdata.copy()):
        loaded = saved_and_loaded(model, tmp_path / str(bool(data)), data)
        np.testing.assert_array_equal(loaded.get_latent_representation(knockouts), expected)
    own = knockouts.copy()
    own_pca(own)
    assert loaded.get_latent_representation(own).shape == expected.shape
    assert not said(caplog)


def test_data_that_are_attached_pass_the_same_check(model, mdata, tmp_path):
    other = mdata.copy()
    scl.pp.encode(other["rna"], encoder="pca", n_components=8, normalize=False)
    with pytest.raises(ValueError, match=OTHER):
        saved_and_loaded(model, tmp_path, other)
    with pytest.raises(ValueError, match=OTHER):
        model.adata = other
    forget(other["rna"])
    SemiClip.load(str(tmp_path / "model"), other, accelerator="cpu")


def test_training_data_that_were_encoded_again_must_be_set_up_again(mdata, setup, quiet, untrained, train):
    scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, normalize=False)
    with pytest.raises(ValueError, match="Training data that were encoded again have to be set up again"):
        untrained.train(1, **quiet)
    model = train(mdata)
    assert np.isfinite(model.get_latent_representation()).all()


def test_another_setup_of_the_same_data_does_not_replace_what_a_model_knows(model, mdata, setup):
    expected = model.get_latent_representation()
    Baseline.setup_mudata(mdata, **setup)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    fingerprint = model.registry["field_registries"]["student"]["state_registry"]["fingerprint"]
    scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, normalize=False)
    Baseline.setup_mudata(mdata, **setup)
    with pytest.raises(ValueError, match=OTHER):
        model.get_latent_representation()
    assert model.registry["field_registries"]["student"]["state_registry"]["fingerprint"] == fingerprint


@pytest.mark.parametrize("change", [lambda mdata: None, lambda mdata: name_columns(mdata["rna"])])
def test_baselines_check_a_query_like_any_model(mdata, train, knockouts, change, tmp_path):
    change(mdata)
    model = train(mdata, Baseline, method="ridge")
    expected = model.get_latent_representation(knockouts)
    query = knockouts.copy()
    name_columns(query)
    reorder(query, COLUMNS[::-1])
    is_named = isinstance(mdata["rna"].obsm["X_pca"], pd.DataFrame)
    assert np.allclose(model.get_latent_representation(query), expected, atol=1e-5) == is_named
    own_pca(knockouts)
    with pytest.raises(ValueError, match=OTHER):
        saved_and_loaded(model, tmp_path).get_latent_representation(knockouts)


def test_one_anndata_with_both_sides(small_study, quiet, knockouts):
    adata = small_study.mdata["rna"].copy()
    adata.obsm["X_image"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    keys = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    SemiClip.setup_anndata(adata, student_rep="X_pca", teacher_rep="X_image", **keys)
    model = SemiClip(adata)
    model.train(1, **quiet)
    assert model.get_latent_representation(knockouts).shape == (knockouts.n_obs, 5)
    own_pca(knockouts)
    with pytest.raises(ValueError, match=OTHER):
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
    ("columns", "message"),
    [
        ([f"Q{i}" for i in range(8)], r"it lacks P0, P1, P2, P3, P4, … \(8 in all\), has Q0, Q1, Q2, Q3, Q4, …"),
        ([*COLUMNS[:7], "PC8"], "it lacks P7, has PC8; rename them if they mean the same, or encode the query with"),
        ([*COLUMNS[:7], "P0"], "it lacks P7, repeats P0;"),
        (range(8), "it lacks P0, P1"),
    ],
)
def test_columns_of_other_names_are_refused(named, mdata, knockouts, tmp_path, columns, message):
    name_columns(knockouts, columns)
    with pytest.raises(ValueError, match=rf"the columns of obsm\['X_pca'\] are not those .* set up with: {message}"):
        named.get_latent_representation(knockouts)
    with pytest.raises(ValueError, match=message):
        saved_and_loaded(named, tmp_path).get_latent_representation(knockouts)
    other = mdata.copy()
    other["rna"].obsm["X_pca"].columns = list(columns)
    with pytest.raises(ValueError, match=message):
        named.adata = other


def test_names_of_the_query_alone_are_no_matter(model, mdata, knockouts, tmp_path):
    expected = model.get_latent_representation(knockouts)
    name_columns(knockouts)
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)
    other = mdata.copy()
    name_columns(other["rna"])
    loaded = saved_and_loaded(model, tmp_path, other)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_numbers_as_names_and_names_that_repeat(mdata, train, knockouts):
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
    with pytest.raises(ValueError, match="it repeats P0;"):
        model.get_latent_representation(knockouts)


def test_columns_of_the_teacher_are_read_by_name_in_further_training(mdata, train, quiet, tmp_path):
    images = mdata["image"]
    names = [f"I{i}" for i in range(images.obsm["X_image"].shape[1])]
    images.obsm["X_image"] = pd.DataFrame(images.obsm["X_image"], index=images.obs_names, columns=names)
    model = train(mdata)
    expected = model._read(mdata, "teacher").values
    other = mdata.copy()
    other["image"].obsm["X_image"] = other["image"].obsm["X_image"][names[::-1]]
    loaded = saved_and_loaded(model, tmp_path, other)
    np.testing.assert_array_equal(loaded._read(other, "teacher").values, expected)
    loaded.train(1, **quiet)
    other["image"].obsm["X_image"].columns = [f"J{i}" for i in range(len(names))]
    with pytest.raises(ValueError, match=r"the columns of obsm\['X_image'\] are not those"):
        loaded.train(1, **quiet)
