import anndata as ad
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {
    "pair_on": ["perturbation", "dose"],
    "perturbation_key": "perturbation",
    "control": "control",
    "batch_key": "batch",
    "progress_bar": False,
    "rng": 0,
}


def views_of(adata, key="views"):
    """Return the views side by side as an array (n_obs, n_views, d)."""
    n_views = adata.uns["semiclip"][key]["params"]["n_views"]
    return adata.obsm[key].reshape(adata.n_obs, n_views, -1)


class Same:
    """Draws what was measured."""

    def fit(self, expression, rng):
        self.expression = expression
        return self

    def draw(self, rows, rng):
        return self.expression.read(rows)


class Doubled(Same):
    """Draws twice the log expression of the first gene."""

    def draw(self, rows, rng):
        return super().draw(rows, rng) * (1 + (np.arange(self.expression.n_genes) == 0))


class Embeds:
    """An encoder that is a function of the data, by default of the expression itself."""

    def __init__(self, function=lambda adata: adata.X):
        self.encode = function


def batch_of(adata):
    """Give the batch of each row as its embedding."""
    assert adata.obs_names.str.cat(adata.obs["batch"].astype(str)).is_unique
    return adata.obs["batch"].cat.codes.to_numpy()[:, None]


@pytest.fixture
def rna(small_study):
    return small_study.mdata["rna"].copy()


@pytest.fixture
def encoder(rna):
    return scl.pp.encode(rna, encoder="pca", n_components=6)


def test_expression_that_is_drawn_as_measured_has_the_embedding_as_every_view(rna, encoder):
    scl.pp.augment(rna, Same(), encoder=encoder, **KEYS, n_views=2)
    assert rna.obsm["X_pca_Same"].shape == (rna.n_obs, 12)
    assert rna.obsm["X_pca_Same"].dtype == np.float32
    views = views_of(rna, "X_pca_Same")
    # counts come back whole, up to what rounding in float32 moves
    np.testing.assert_allclose(views[:, 0], rna.obsm["X_pca"], atol=0.15)
    assert np.median(np.abs(views[:, 0] - rna.obsm["X_pca"])) < 1e-3


def test_counts_keep_their_number_and_stay_whole_and_controls_are_left_alone(rna):
    scl.pp.augment(rna, Doubled(), encoder=Embeds(), **KEYS, n_views=3, key_added="views")
    views, counts = views_of(rna), np.asarray(rna.X)
    control = (rna.obs["perturbation"] == "control").to_numpy()
    np.testing.assert_array_equal(views[control], np.repeat(counts[control][:, None], 3, axis=1))
    assert (views == np.round(views)).all()
    library = counts[~control].sum(axis=1)
    # rounding up or down at random adds at most the root of the number of genes
    assert np.abs(views[~control].sum(axis=2) - library[:, None]).max() < 4 * np.sqrt(rna.n_vars)
    assert (views[~control][:, 0, 0] > counts[~control][:, 0])[counts[~control][:, 0] > 0].all()


def test_normalised_values_are_drawn_as_they_are_from_the_layer_that_the_encoder_reads(rna):
    rna.layers["z"] = (np.asarray(rna.X, dtype=np.float32) - 3) / 2
    encoder = scl.encoders.PCAEncoder(n_components=5, normalize=False, layer="z").fit(rna)
    scl.pp.augment(rna, Same(), encoder=encoder, **KEYS, n_views=1, key_added="views")
    np.testing.assert_allclose(rna.obsm["views"], encoder.encode(rna), rtol=1e-5, atol=1e-4)


def test_an_encoder_that_reads_another_layer_than_is_augmented_finds_what_was_drawn(rna, encoder):
    layered = rna.copy()
    layered.layers["raw"], layered.X = layered.X, None
    options = {**KEYS, "n_views": 1, "key_added": "views"}
    scl.pp.augment(layered, Same(), encoder=encoder, layer="raw", **options)
    scl.pp.augment(rna, Same(), encoder=encoder, **options)
    np.testing.assert_array_equal(layered.obsm["views"], rna.obsm["views"])


def test_an_augmentation_is_told_keys_and_batches_and_the_encoder_its_rows(rna, monkeypatch):
    rna = rna[np.random.default_rng(0).permutation(rna.n_obs)].copy()
    monkeypatch.setattr("semiclip.pp._augment.BLOCK", 50)
    expression = scl.pp.augment(rna, Same(), encoder=Embeds(batch_of), **KEYS, key_added="views").expression
    obs = rna.obs
    assert [expression.batch_names[code] for code in expression.batch] == obs["batch"].tolist()
    treated = (obs["perturbation"] != "control").to_numpy()
    np.testing.assert_array_equal(expression.group >= 0, treated)
    np.testing.assert_array_equal(rna.obsm["views"], np.repeat(batch_of(rna), 4, axis=1))
    split = scl.pp.augment(rna, Same(), encoder=Embeds(batch_of), **KEYS, split_key="batch", key_added="views")
    for group, columns in [(expression.group, KEYS["pair_on"]), (split.expression.group, [*KEYS["pair_on"], "batch"])]:
        code = obs.groupby(columns, observed=True).ngroup().to_numpy()[treated]
        tied = group[treated, None] == group[treated]
        np.testing.assert_array_equal(tied, code[:, None] == code)


def test_an_encoder_may_read_var(rna):
    rna.var["kind"] = ["read", "other"] * (rna.n_vars // 2)
    encoder = Embeds(lambda adata: adata.X[:, (adata.var["kind"] == "read").to_numpy()])
    scl.pp.augment(rna, Same(), encoder=encoder, **KEYS, n_views=1, key_added="views")
    assert rna.obsm["views"].shape[1] == rna.n_vars // 2


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of samples without another
def test_experiments_that_a_split_holds_out_are_not_mixed(rna, encoder):
    """Change what one experiment measured: views of the other one stay as they are."""
    rna.obs["experiment"] = np.random.default_rng(0).choice(["first", "second"], rna.n_obs)
    other = rna.copy()
    second = (rna.obs["experiment"] == "second").to_numpy()
    other.X[second] = other.X[second][:, ::-1]
    for adata in (rna, other):
        scl.pp.augment(adata, "mwo", encoder=encoder, **KEYS, n_views=2, split_key="experiment", key_added="apart")
        scl.pp.augment(adata, "mwo", encoder=encoder, **KEYS, n_views=2, key_added="mixed")
    np.testing.assert_allclose(other.obsm["apart"][~second], rna.obsm["apart"][~second], atol=1e-5)
    assert np.abs(other.obsm["mixed"][~second] - rna.obsm["mixed"][~second]).max() > 0.1


OPTIONS = {
    "scvi": {"n_latent": 2, "max_epochs": 1, "train_kwargs": {"enable_progress_bar": False, "log_every_n_steps": 1}},
    # small steps, so that no sample is left with one gene above zero, whose counts would be the same in all views
    "mdwgan_gp": {"n_epochs": 2, "lr": 5e-4},
}


@pytest.mark.parametrize("name", scl.augment.AUGMENTATIONS)
def test_the_same_seed_gives_the_same_views_and_another_one_others(rna, encoder, name):
    first, again, other = rna.copy(), rna.copy(), rna.copy()
    for adata, seed in ((first, 1), (again, 1), (other, 2)):
        options = {**KEYS, "rng": seed, **OPTIONS.get(name, {})}
        scl.pp.augment(adata, name, encoder=encoder, n_views=2, key_added="views", **options)
    np.testing.assert_array_equal(first.obsm["views"], again.obsm["views"])
    treated = (rna.obs["perturbation"] != "control").to_numpy()
    assert (views_of(first)[treated] != views_of(other)[treated]).any(axis=(1, 2)).all()
    assert (views_of(first)[treated, 0] != views_of(first)[treated, 1]).any(axis=1).all()


def test_only_views_and_how_they_were_made_are_written_and_survive_a_file(rna, encoder, tmp_path):
    before = rna.copy()
    scl.pp.augment(rna, "mwo", encoder=encoder, **KEYS, n_views=2, k=3)
    assert set(rna.obsm) == {*before.obsm, "X_pca_mwo"}
    np.testing.assert_array_equal(np.asarray(rna.X), np.asarray(before.X))
    pd.testing.assert_frame_equal(rna.obs, before.obs)
    params = rna.uns["semiclip"]["X_pca_mwo"]["params"]
    expected = {"augmentation": "mwo", "encoder": "pca", "n_views": 2, "k": 3, "rng": 0, "normalize": True}
    expected |= {name: KEYS[name] for name in ("pair_on", "perturbation_key", "batch_key")} | {"control": ["control"]}
    assert params == expected
    rna.write_h5ad(tmp_path / "rna.h5ad")
    rna.write_zarr(tmp_path / "rna.zarr")
    for back in (ad.read_h5ad(tmp_path / "rna.h5ad"), ad.read_zarr(tmp_path / "rna.zarr")):
        np.testing.assert_array_equal(back.obsm["X_pca_mwo"], rna.obsm["X_pca_mwo"])


def test_missing_genes_are_warned_of_once(rna, encoder, monkeypatch, warned):
    monkeypatch.setattr("semiclip.pp._augment.BLOCK", 50)
    few = rna[:, 1:].copy()
    for _ in range(2):  # also by a second call
        scl.pp.augment(few, Same(), encoder=encoder, **KEYS)
        (message,) = warned()
        assert f"1 of the {rna.n_vars} genes" in message
        assert message.endswith(f": {rna.var_names[0]}")


def test_logged_values_are_warned_of_once(rna, encoder, warned):
    rna.layers["counts"], rna.X = rna.X, np.log1p(rna.X)
    scl.pp.augment(rna, Same(), encoder=encoder, **KEYS)
    (message,) = warned()
    assert "layer='counts'" in message


class Wide(Same):
    def draw(self, rows, rng):
        return np.repeat(super().draw(rows, rng), 2, axis=1)


ENCODERS = {"flat": Embeds(lambda adata: adata.X[:, 0]), "broken": Embeds(lambda adata: adata.X * np.nan)}


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"augmentation": "noise"}, errors.UnknownChoice, {"name": "augmentation"}),
        ({"n": 3}, errors.UnexpectedArgument, {"names": ["n"]}),
        ({"augmentation": Embeds()}, errors.WrongType, {"got": Embeds}),
        ({"augmentation": Same}, errors.WrongType, {"got": type(Same)}),
        ({"augmentation": Same(), "k": 3}, errors.IdleArgument, {"names": ["k"]}),
        ({"encoder": "pca"}, errors.WrongType, {"name": "encoder", "got": str}),
        ({"encoder": ENCODERS["flat"], "key_added": "v"}, errors.WrongShape, {}),
        ({"encoder": ENCODERS["broken"], "key_added": "v"}, errors.NotFinite, {"where": "the views"}),
        ({"augmentation": Wide()}, errors.WrongShape, {"where": "what the augmentation drew"}),
        ({"n_views": 0}, errors.BadValue, {"name": "n_views"}),
        ({"n_views": 2.0}, errors.BadValue, {"name": "n_views"}),
        ({"key_added": "X_pca"}, errors.NameTaken, {"items": "X_pca"}),
        ({"key_added": "a/b"}, errors.CannotWrite, {}),
        ({"pair_on": []}, errors.BadValue, {"name": "pair_on"}),
        ({"pair_on": None}, errors.BadValue, {"name": "pair_on"}),
        ({"pair_on": "compound"}, KeyError, {}),
        ({"split_key": "experiment"}, KeyError, {}),
        ({"batch_key": "plate"}, errors.MissingColumn, {"key": "plate"}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"layer": "raw"}, KeyError, {}),
    ],
)
def test_what_cannot_be_augmented_is_refused_and_nothing_written(rna, encoder, change, error, data, refuses):
    before = set(rna.obsm)
    arguments = {"augmentation": "mwo", "encoder": encoder, **KEYS, **change}
    with refuses(error, **data):
        scl.pp.augment(rna, arguments.pop("augmentation"), **arguments)
    assert set(rna.obsm) == before
    assert "semiclip" not in rna.uns or not any("mwo" in key for key in rna.uns["semiclip"])
