import gc
import weakref

import numpy as np
import pytest
import torch
from scipy import sparse
from scvi.model import SCVI, LinearSCVI

import semiclip as scl
from semiclip import errors
from semiclip.encoders import SCVIEncoder, load

GENES = [f"gene{i}" for i in range(15)]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


@pytest.fixture(scope="module")
def fitted(new_scvi, make):
    return new_scvi().fit(make())


@pytest.fixture
def models(monkeypatch):
    """Models of scvi-tools that were trained in this test."""
    trained, train = [], SCVI.train

    def watched(self, *args, **keywords):
        train(self, *args, **keywords)
        trained.append(self)

    monkeypatch.setattr(SCVI, "train", watched)
    return trained


def test_embeds(make, fitted):
    adata = make()
    out = fitted.encode(adata)
    assert out.shape == (50, 4)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.ptp(out, axis=0).min() > 1e-3
    np.testing.assert_allclose(fitted.encode(adata[[30, 2, 17]].copy()), out[[30, 2, 17]], atol=1e-6)
    private = make()
    SCVI.setup_anndata(private, batch_key="plate")
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng(0).integers(2**63)))
        model = SCVI(private, n_latent=4)
        model.train(1, train_size=1.0, shuffle_set_split=False, **QUIET)
    np.testing.assert_array_equal(out, model.get_latent_representation())


def test_the_seed_decides_the_embedding_to_a_bit(new_scvi, make, fitted):
    out = fitted.encode(make())
    torch.rand(5)
    np.testing.assert_array_equal(new_scvi().fit(make()).encode(make()), out)
    rng = np.random.default_rng(0)
    first, second = (new_scvi(rng=rng).fit(make()).encode(make()) for _ in range(2))
    np.testing.assert_array_equal(first, out)
    assert np.abs(second - out).max() > 1e-3  # a generator moves on
    with torch.random.fork_rng():  # without a seed torch decides
        torch.manual_seed(int(np.random.default_rng(0).integers(2**63)))
        first, second = (new_scvi(rng=None).fit(make()).encode(make()) for _ in range(2))
    np.testing.assert_array_equal(first, out)
    assert np.abs(second - first).max() > 1e-3


def test_embeds_batches_that_it_has_never_seen(make, fitted):
    adata = make()
    out = fitted.encode(adata)
    adata.obs["plate"] = "new"
    np.testing.assert_array_equal(fitted.encode(adata), out)
    del adata.obs["plate"]
    np.testing.assert_array_equal(fitted.encode(adata), out)


def test_holds_on_to_no_data(new_scvi, make, models):
    adata = make()
    trained = new_scvi().fit(adata)
    trained.encode(adata)
    trained.denoise(adata, rng=0)
    held = [weakref.ref(data) for data in (adata, models[0].adata, models[0])]
    models.clear()
    del adata
    gc.collect()
    assert all(reference() is None for reference in held)
    assert trained.encode(make()).shape == (50, 4)


def test_arguments_reach_scvi(new_scvi, make, models):
    new_scvi(max_epochs=2, model_kwargs={"n_hidden": 7, "gene_likelihood": "nb"}).fit(make(n=300))
    new_scvi(train_kwargs=QUIET | {"train_size": 0.8}).fit(make())
    assert [len(model.train_indices) for model in models] == [300, 40]
    module = models[0].module
    assert (module.gene_likelihood, module.z_encoder.mean_encoder.in_features) == ("nb", 7)
    assert models[0].trainer.current_epoch == 2


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("bad", [-1, 0.5, np.nan, np.inf])
def test_refuses_what_is_not_counts_and_names_the_rows(new_scvi, make, fitted, convert, bad, refuses):
    adata = make()
    adata.X[[2, 9], [1, 3]] = bad
    adata.X = convert(adata.X)
    for call in (new_scvi().fit, fitted.encode):
        with refuses(errors.NotCounts, rows=["cell2", "cell9"]):
            call(adata)


def test_refuses(new_scvi, make, refuses):
    adata = make()
    with refuses(errors.MissingColumn, key="run", there=["plate"], name="batch_key"):
        new_scvi(batch_key="run").fit(adata)
    adata.obs.loc["cell3", "plate"] = None
    with refuses(errors.MissingValues, rows=["cell3"]):
        new_scvi().fit(adata)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"n_hidden": [128]}),
        ({"n_layers": 2, "n_hidden": 32, "dropout_rate": 0.3}, {"n_hidden": [32, 32], "dropout": 0.3}),
        ({"n_layers": 3, "n_hidden": 8, "dropout_rate": 0}, {"n_hidden": [8, 8, 8], "dropout": 0.0}),
        ({"n_layers": 2, "n_hidden": 8, "use_batch_norm": "decoder"}, {"n_hidden": [8, 8], "batch_norm": False}),
        ({"n_hidden": 8, "use_layer_norm": "decoder", "use_batch_norm": "encoder"}, {"n_hidden": [8]}),
        ({"n_hidden": 8, "batch_representation": "embedding"}, {"n_hidden": [8]}),
    ],
)
def test_its_network_gives_the_same_embedding(through_network, new_scvi, make, options, expected):
    trained = new_scvi(max_epochs=2, model_kwargs=options).fit(make())
    usual = {"n_input": 15, "n_output": 4, "batch_norm": True, "dropout": 0.1}
    assert trained.architecture == {**usual, **expected}
    np.testing.assert_allclose(trained.features(make(1)), np.log1p(make(1).X), rtol=1e-6)
    out = trained.encode(make(1))
    np.testing.assert_allclose(through_network(trained, make(1)), out, rtol=1e-4, atol=1e-4 * np.abs(out).max())


@pytest.mark.parametrize(
    ("options", "foreign"),
    [
        ({"encode_covariates": True}, ["encode_covariates=True"]),
        ({"encode_covariates": True, "deeply_inject_covariates": True}, ["encode_covariates=True"]),
        ({"log_variational": False}, ["log_variational=False"]),
        ({"latent_distribution": "ln"}, ["latent_distribution='ln'"]),
        ({"use_layer_norm": "encoder"}, ["layer normalisation"]),
        ({"extra_encoder_kwargs": {"activation_fn": torch.nn.SiLU}}, ["no ReLU"]),
        ({"extra_encoder_kwargs": {"use_activation": False, "bias": False}}, ["no ReLU", "no bias"]),
    ],
)
def test_refuses_to_describe_what_its_network_would_not_be(new_scvi, make, options, foreign, refuses):
    trained = new_scvi(model_kwargs=options).fit(make())
    assert trained.encode(make()).shape == (50, 4)
    for call in (lambda: trained.architecture, trained.weights):
        with refuses(errors.Refused, items=foreign):
            call()


def train(adata, setup=None, **options):
    private = adata.copy()
    SCVI.setup_anndata(private, **({"batch_key": "plate"} if setup is None else setup))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SCVI(private, n_latent=4, **options)
        model.train(1, **QUIET)
    return model


@pytest.mark.parametrize("options", [{}, {"n_layers": 2, "n_hidden": 16, "gene_likelihood": "nb"}])
def test_a_model_of_scvi_tools_becomes_an_encoder(make, options, tmp_path):
    adata = make()
    adata.layers["raw"], adata.X = adata.X, np.log1p(adata.X)
    model = train(adata, {"batch_key": "plate", "layer": "raw"}, **options)
    expected = model.get_latent_representation()
    made = SCVIEncoder.from_model(model, min_overlap=0.6)
    assert (made.n_latent, made.batch_key, made.layer, made.min_overlap) == (4, "plate", "raw", 0.6)
    assert made.model_kwargs.items() >= options.items()
    new = adata[:, GENES[::-1]].copy()
    scl.pp.encode(new, encoder=made)
    np.testing.assert_allclose(new.obsm["X_scvi"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.encode(adata), expected)
    adata.obs["plate"] = "new"
    np.testing.assert_array_equal(made.encode(adata), expected)
    assert made.denoise(model.adata, rng=0).shape == (50, 15)
    model.save(tmp_path / "scvi")
    for data in (model.adata, False):
        again = SCVIEncoder.from_model(SCVI.load(tmp_path / "scvi", adata=data, accelerator="cpu"))
        np.testing.assert_array_equal(again.encode(adata), expected)
    made.save(tmp_path / "encoder")
    np.testing.assert_array_equal(load(tmp_path / "encoder").encode(adata), expected)
    for weight in model.module.parameters():
        weight.data.zero_()
    np.testing.assert_array_equal(made.encode(adata), expected)
    assert not any(value is model or value is model.adata for value in vars(made).values())


DRAWS = 5000  # of the softmax of a normal latent space, with which scvi-tools and the encoder estimate its mean
TOLD = {"encode_covariates": True}


@pytest.mark.parametrize("from_model", [True, False])
def test_an_encoder_that_is_told_the_batch_embeds_known_batches_only(new_scvi, make, from_model, refuses):
    adata = make()
    told = SCVIEncoder.from_model(train(adata, **TOLD)) if from_model else new_scvi(model_kwargs=TOLD).fit(adata)
    out = told.encode(adata)
    np.testing.assert_allclose(told.encode(adata[[30, 3]].copy()), out[[30, 3]], atol=1e-6)
    swapped = make()
    swapped.obs["plate"] = np.array(["b", "a"])[np.arange(50) % 2]
    assert np.abs(told.encode(swapped) - out).max() > 1e-4
    adata.obs["plate"] = np.array(["a", "x"])[np.arange(50) % 2]
    with refuses(errors.UnknownChoice, name="obs['plate']", value=["x"], choices=["a", "b"]):
        told.encode(adata)
    del adata.obs["plate"]
    with refuses(errors.MissingColumn, key="plate"):
        told.encode(adata)


def test_refuses_models_that_are_no_encoder(make, refuses):
    adata = make()
    LinearSCVI.setup_anndata(adata)
    with refuses(errors.WrongType, got=LinearSCVI):
        SCVIEncoder.from_model(LinearSCVI(adata))
    adata = make()
    SCVI.setup_anndata(adata, batch_key="plate")
    with refuses(errors.NotFitted):
        SCVIEncoder.from_model(SCVI(adata))
    adata.obs["age"], adata.obs["donor"] = 1.0, adata.obs["plate"]
    setup = {"batch_key": "plate", "categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]}
    with refuses(errors.Refused, items=["donor", "age"]):
        SCVIEncoder.from_model(train(adata, setup))


def test_a_size_factor_matters_to_the_decoder_only(make, refuses):
    adata = make()
    adata.obs["depth"] = adata.X.sum(axis=1)
    model = train(adata, {"batch_key": "plate", "size_factor_key": "depth"})
    made = SCVIEncoder.from_model(model)
    np.testing.assert_array_equal(made.encode(make()), model.get_latent_representation())
    with refuses(errors.Conflict):
        made.denoise(adata)


def test_models_that_were_minified_or_extended_to_a_query(make):
    adata = make()
    model = train(adata, use_layer_norm="both", use_batch_norm="none")
    expected = model.get_latent_representation()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        query = SCVI.load_query_data(make(1, plates="xy"), model)
        query.module.train()  # lightning warns of a network that is in evaluation mode
        query.train(1, plan_kwargs={"weight_decay": 0.0}, **QUIET)
        posterior = model.get_latent_representation(return_dist=True)
        model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = posterior
        model.minify_adata()
    minified, extended = SCVIEncoder.from_model(model), SCVIEncoder.from_model(query)
    np.testing.assert_array_equal(minified.encode(make()), expected)
    np.testing.assert_allclose(minified.denoise(make(), rng=0).sum(axis=1, dtype=float), 1e4, rtol=1e-5)
    np.testing.assert_array_equal(extended.encode(make(1)), query.get_latent_representation())
    assert extended.batches_.tolist() == ["a", "b", "x", "y"]
    assert extended.denoise(make(plates="abxy"), rng=0).shape == (50, 15)


def test_a_fit_that_fails_keeps_the_encoder_as_it_was(new_scvi, make):
    trained = new_scvi().fit(make())
    out, module = trained.encode(make()), trained.module_
    trained.train_kwargs = {"nonsense": 1}
    with pytest.raises(TypeError, match="nonsense"):
        trained.fit(make(1))
    np.testing.assert_array_equal(trained.encode(make()), out)
    assert trained.module_ is module


@pytest.fixture(scope="module")
def softmax(make):
    return train(make(n=300), latent_distribution="ln")


def test_a_mean_that_is_estimated_does_not_depend_on_the_other_samples(make, softmax):
    encoder, adata = SCVIEncoder.from_model(softmax), make(n=300)
    out = encoder.encode(adata)
    torch.rand(7)
    for rows in (np.arange(100, 110), np.array([299, 3]), np.array([128]), np.random.default_rng(0).permutation(300)):
        np.testing.assert_allclose(encoder.encode(adata[rows].copy()), out[rows], rtol=1e-5)
    np.testing.assert_array_equal(encoder.encode(adata), out)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)


def test_it_is_the_mean_of_the_softmax_within_the_error_of_its_draws(make, softmax):
    mean, variance = softmax.get_latent_representation(return_dist=True)
    drawn = mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(DRAWS, *mean.shape))
    soft = np.exp(drawn - drawn.max(axis=2, keepdims=True))
    soft /= soft.sum(axis=2, keepdims=True)
    out = SCVIEncoder.from_model(softmax).encode(make(n=300))
    error = soft.std(axis=0) * np.sqrt(2 / DRAWS)  # of a difference of two estimates
    with torch.random.fork_rng():
        torch.manual_seed(1)
        of_scvi_tools = softmax.get_latent_representation()
    for other in (soft.mean(axis=0), of_scvi_tools):
        z = (out - other) / error
        assert np.abs(z).max() < 5.5
        # the same draws for all samples leave errors that samples share, and so a mean of squares far from a sharp 1
        assert 0.1 < (z**2).mean() < 4
    assert np.abs(out - np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)).max() > 5 * error.max()
