import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scvi.model import SCVI

from semiclip import errors
from semiclip.encoders import SCVIEncoder

GENES = [f"gene{i}" for i in range(15)]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


def make(seed=0, n=300, convert=np.asarray):
    rng = np.random.default_rng(seed)
    rate = rng.uniform(1, 9, 15) * np.random.default_rng(1).uniform(0.2, 3, (2, 15))[np.arange(n) % 2]
    obs = pd.DataFrame({"plate": np.array(["a", "b"])[np.arange(n) % 2]}, index=[f"cell{i}" for i in range(n)])
    values = rng.poisson(rate).astype(np.float32)
    return anndata.AnnData(convert(values), obs=obs, var=pd.DataFrame(index=GENES))


def encoder(**keywords):
    keywords = {"n_latent": 4, "batch_key": "plate", "max_epochs": 1, "rng": 0, "train_kwargs": QUIET} | keywords
    return SCVIEncoder(**keywords)


@pytest.fixture(scope="module")
def fitted():
    return encoder(max_epochs=5).fit(make())


def reseed(rng):
    torch.manual_seed(int(np.random.default_rng(rng).integers(2**63)))


def scaled(counts):
    total = counts.sum(axis=1, keepdims=True, dtype=float)
    return 1e4 * counts / np.where(total > 0, total, 1)


VARIANTS = [
    {},
    {"gene_likelihood": "nb", "dispersion": "gene-batch"},
    {"gene_likelihood": "poisson", "batch_representation": "embedding"},
    {"dispersion": "gene-cell", "n_layers": 2, "use_observed_lib_size": False},
    {"encode_covariates": True},
]


@pytest.mark.filterwarnings("ignore:Using .* after custom Dataloader")  # scvi-tools 1.5, about its own batch size
@pytest.mark.parametrize("options", VARIANTS)
def test_is_what_scvi_tools_draws_with_the_same_seed(options):
    private = make()
    SCVI.setup_anndata(private, batch_key="plate")
    with torch.random.fork_rng():
        reseed(0)
        model = SCVI(private, n_latent=4, **options)
        model.train(1, **QUIET)
    adata, trained = make(), SCVIEncoder.from_model(model)
    samples = list(model._make_data_loader(model.adata))  # a loader would draw a seed of its own
    with torch.random.fork_rng():
        reseed(3)
        mean = model.get_normalized_expression(dataloader=samples, library_size=1e4)
        reseed(3)
        drawn = torch.cat([model.module(some, compute_loss=False)[1]["px"].sample() for some in samples])
    np.testing.assert_allclose(trained.denoise(adata, rng=3), mean, rtol=1e-5)
    np.testing.assert_allclose(trained.denoise(adata, mode="ppc", rng=3), scaled(drawn.numpy()), rtol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "ppc"])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_rows_are_ten_thousand_counts_and_data_are_left_alone(fitted, mode, convert, capfd, caplog):
    caplog.set_level("INFO")
    adata = make(n=340, convert=convert)
    before, view = adata.copy(), adata[:300]
    out = fitted.denoise(view, mode=mode, rng=0)
    assert out.shape == (300, 15)
    assert out.dtype == np.float32
    assert (out >= 0).all()
    np.testing.assert_allclose(out.sum(axis=1, dtype=float), 1e4, rtol=1e-5)
    np.testing.assert_array_equal(out, fitted.denoise(make(n=340)[:300], mode=mode, rng=0))
    assert view.is_view and not adata.uns and not adata.obsm and not np.abs(adata.X - before.X).sum()
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_counting_adds_noise_and_no_bias():
    trained, adata = encoder(model_kwargs={"gene_likelihood": "poisson"}).fit(make()), make(n=20)
    mean, ppc = (
        np.stack([trained.denoise(adata, mode=mode, rng=seed) for seed in range(100)]) for mode in ("mean", "ppc")
    )
    assert (ppc.var(axis=0) > 2 * mean.var(axis=0)).mean() > 0.95
    assert (mean.var(axis=0) > 0).all()
    np.testing.assert_allclose(ppc.mean(axis=(0, 1)), mean.mean(axis=(0, 1)), rtol=0.05)


@pytest.mark.parametrize("mode", ["mean", "ppc"])
def test_the_seed_decides_the_draws(fitted, mode):
    adata = make(n=40)
    first = fitted.denoise(adata, mode=mode, rng=1)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(fitted.denoise(adata, mode=mode, rng=1), first)
    np.testing.assert_array_equal(fitted.denoise(adata, mode=mode, rng=np.random.default_rng(1)), first)
    assert torch.equal(torch.get_rng_state(), state)
    other = fitted.denoise(adata, mode=mode, rng=2)
    assert (other != first).any(axis=1).all()
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(fitted.denoise(adata, mode=mode, rng=rng), first)
    assert np.abs(fitted.denoise(adata, mode=mode, rng=rng) - first).max() > 1


def test_without_a_seed_torch_decides(fitted):
    adata = make(n=40)
    with torch.random.fork_rng():
        reseed(5)
        first, second = (fitted.denoise(adata) for _ in range(2))
    np.testing.assert_array_equal(first, fitted.denoise(adata, rng=5))
    assert np.abs(second - first).max() > 1


def test_each_sample_is_decoded_with_its_own_batch():
    trained = encoder(max_epochs=40, n_latent=2).fit(make())
    adata = make()
    right = trained.denoise(adata, rng=0)
    seen = scaled(make().X[::2]).mean(axis=0)
    adata.obs["plate"] = adata.obs["plate"].map({"a": "b", "b": "a"})
    other = trained.denoise(adata, rng=0)
    assert np.abs(other[::2] - seen).mean() > 1.3 * np.abs(right[::2] - seen).mean()


def test_genes_come_in_the_order_of_the_encoder(fitted):
    adata = make(n=40)
    out = fitted.denoise(adata, rng=0)
    np.testing.assert_allclose(fitted.denoise(adata[:, GENES[::-1]].copy(), rng=0), out, rtol=1e-5)
    without = adata.copy()
    without.X[:, 7] = 0
    some = fitted.denoise(adata[:, adata.var_names != "gene7"].copy(), rng=0)
    np.testing.assert_array_equal(some, fitted.denoise(without, rng=0))
    assert (some[:, 7] > 0).all()


@pytest.mark.parametrize("options", [{}, {"gene_likelihood": "nb"}, {"gene_likelihood": "poisson"}])
def test_an_empty_sample_is_drawn_from_without_noise_only(options):
    trained, adata = encoder(model_kwargs=options).fit(make()), make(n=10)
    adata.X[4] = 0
    np.testing.assert_allclose(trained.denoise(adata, rng=0).sum(axis=1, dtype=float), 1e4, rtol=1e-5)
    total = trained.denoise(adata, mode="ppc", rng=0).sum(axis=1, dtype=float)
    np.testing.assert_allclose(total, np.where(np.arange(10) == 4, 0, 1e4), rtol=1e-5)


def test_without_batches():
    adata = make()
    del adata.obs["plate"]
    out = encoder(batch_key=None).fit(adata).denoise(adata, rng=0)
    np.testing.assert_allclose(out.sum(axis=1, dtype=float), 1e4, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "obs", "value", "error", "data"),
    [
        ({"mode": "median"}, {}, 1, errors.UnknownChoice, {"name": "mode", "choices": ["mean", "ppc"]}),
        ({}, {"plate": ["a", "c", "d", "e"] * 5}, 1, errors.UnknownChoice, {"value": ["c", "d", "e"]}),
        ({}, {"plate": "c"}, 1, errors.UnknownChoice, {"name": "obs['plate']", "choices": ["a", "b"]}),
        ({}, None, 1, errors.MissingColumn, {"key": "plate", "name": "batch_key"}),
        ({}, {}, 0.5, errors.NotCounts, {"rows": ["cell3"]}),
    ],
)
def test_refuses(fitted, options, obs, value, error, data, refuses):
    adata = make(n=20)
    adata.X[3, 3] = value
    adata.obs = pd.DataFrame(index=adata.obs_names) if obs is None else adata.obs.assign(**obs)
    with refuses(error, **data):
        fitted.denoise(adata, **options)


def test_refuses_noise_that_is_not_of_counts(refuses):
    adata = make()
    trained = encoder(model_kwargs={"gene_likelihood": "normal"}).fit(adata)
    np.testing.assert_allclose(trained.denoise(adata, rng=0).sum(axis=1, dtype=float), 1e4, rtol=1e-5)
    with refuses(errors.Conflict, first='mode="ppc"'):
        trained.denoise(adata, mode="ppc")


def from_model(adata):
    private = adata.copy()
    SCVI.setup_anndata(private, batch_key="plate")
    model = SCVI(private, n_latent=4)
    model.train(1, **QUIET)
    return SCVIEncoder.from_model(model)


def on_plates(plates):
    adata = make(n=50)
    adata.obs["plate"] = np.asarray(plates)[np.arange(50) % 2]
    return adata


@pytest.mark.parametrize("fit", [lambda adata: encoder().fit(adata), from_model])
@pytest.mark.parametrize("dtype", [int, float])
def test_batches_that_are_whole_numbers_are_the_same_as_integers_and_floats(dtype, fit, refuses):
    adata = on_plates(np.array([0, 1], dtype=dtype))
    codes = np.arange(50) % 2
    trained = fit(adata)
    expected = trained.denoise(adata, rng=0)
    for values in (codes, codes.astype(float), codes.astype(str), pd.Categorical(codes.astype(float))):
        adata.obs["plate"] = values
        np.testing.assert_array_equal(trained.denoise(adata, rng=0), expected)
    adata.obs["plate"] = 1 - codes
    assert np.abs(trained.denoise(adata, rng=0) - expected).max() > 1e-3
    adata.obs["plate"] = codes + 0.5
    with refuses(errors.UnknownChoice, name="obs['plate']", value=["0.5", "1.5"]):
        trained.denoise(adata)


def test_batches_that_differ_as_text_alone_stay_apart():
    adata = on_plates(["1", "1.0"])
    trained = encoder().fit(adata)
    assert trained.batches_.tolist() == ["1", "1.0"]
    out = trained.denoise(adata, rng=0)
    adata.obs["plate"] = "1"
    apart = np.abs(trained.denoise(adata, rng=0) - out).max(axis=1)
    assert not apart[::2].any()
    assert (apart[1::2] > 1e-3).all()
