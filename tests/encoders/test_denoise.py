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


@pytest.fixture(scope="module")
def fitted(new_scvi, make):
    return new_scvi(max_epochs=5).fit(make(n=300))


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
def test_is_what_scvi_tools_draws_with_the_same_seed(make, options):
    private = make(n=300)
    SCVI.setup_anndata(private, batch_key="plate")
    with torch.random.fork_rng():
        reseed(0)
        model = SCVI(private, n_latent=4, **options)
        model.train(1, **QUIET)
    adata, trained = make(n=300), SCVIEncoder.from_model(model)
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
def test_rows_are_ten_thousand_counts_and_data_are_left_alone(make, fitted, mode, convert, capfd, caplog):
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


def test_counting_adds_noise_and_no_bias(new_scvi, make):
    trained, adata = new_scvi(model_kwargs={"gene_likelihood": "poisson"}).fit(make(n=300)), make(n=20)
    mean, ppc = (
        np.stack([trained.denoise(adata, mode=mode, rng=seed) for seed in range(100)]) for mode in ("mean", "ppc")
    )
    assert (ppc.var(axis=0) > 2 * mean.var(axis=0)).mean() > 0.95
    assert (mean.var(axis=0) > 0).all()
    np.testing.assert_allclose(ppc.mean(axis=(0, 1)), mean.mean(axis=(0, 1)), rtol=0.05)


@pytest.mark.parametrize("mode", ["mean", "ppc"])
def test_the_seed_decides_the_draws(make, fitted, mode):
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
    with torch.random.fork_rng():  # without a seed torch decides
        reseed(1)
        drawn, second = (fitted.denoise(adata, mode=mode) for _ in range(2))
    np.testing.assert_array_equal(drawn, first)
    assert np.abs(second - first).max() > 1


@pytest.mark.parametrize("options", [{}, {"gene_likelihood": "nb"}, {"gene_likelihood": "poisson"}])
def test_an_empty_sample_is_drawn_from_without_noise_only(new_scvi, make, options):
    trained, adata = new_scvi(model_kwargs=options).fit(make(n=300)), make(n=10)
    adata.X[4] = 0
    np.testing.assert_allclose(trained.denoise(adata, rng=0).sum(axis=1, dtype=float), 1e4, rtol=1e-5)
    total = trained.denoise(adata, mode="ppc", rng=0).sum(axis=1, dtype=float)
    np.testing.assert_allclose(total, np.where(np.arange(10) == 4, 0, 1e4), rtol=1e-5)


def test_without_batches(new_scvi, make):
    adata = make(n=300)
    del adata.obs["plate"]
    out = new_scvi(batch_key=None).fit(adata).denoise(adata, rng=0)
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
def test_refuses(make, fitted, options, obs, value, error, data, refuses):
    adata = make(n=20)
    adata.X[3, 3] = value
    adata.obs = pd.DataFrame(index=adata.obs_names) if obs is None else adata.obs.assign(**obs)
    with refuses(error, **data):
        fitted.denoise(adata, **options)


def test_refuses_noise_that_is_not_of_counts(new_scvi, make, refuses):
    adata = make(n=300)
    trained = new_scvi(model_kwargs={"gene_likelihood": "normal"}).fit(adata)
    np.testing.assert_allclose(trained.denoise(adata, rng=0).sum(axis=1, dtype=float), 1e4, rtol=1e-5)
    with refuses(errors.Conflict, first='mode="ppc"'):
        trained.denoise(adata, mode="ppc")


def put_on_plates(adata, plates):
    adata.obs["plate"] = np.asarray(plates)[np.arange(50) % 2]
    return adata


@pytest.mark.parametrize("from_model", [True, False])
@pytest.mark.parametrize("dtype", [int, float])
def test_batches_that_are_whole_numbers_are_the_same_as_integers_and_floats(new_scvi, make, dtype, from_model, refuses):
    adata = put_on_plates(make(), np.array([0, 1], dtype=dtype))
    codes = np.arange(50) % 2
    if from_model:
        SCVI.setup_anndata(private := adata.copy(), batch_key="plate")
        model = SCVI(private, n_latent=4)
        model.train(1, **QUIET)
    trained = SCVIEncoder.from_model(model) if from_model else new_scvi().fit(adata)
    expected = trained.denoise(adata, rng=0)
    for values in (codes, codes.astype(float), codes.astype(str), pd.Categorical(codes.astype(float))):
        adata.obs["plate"] = values
        np.testing.assert_array_equal(trained.denoise(adata, rng=0), expected)
    adata.obs["plate"] = 1 - codes
    assert np.abs(trained.denoise(adata, rng=0) - expected).max() > 1e-3
    adata.obs["plate"] = codes + 0.5
    with refuses(errors.UnknownChoice, name="obs['plate']", value=["0.5", "1.5"]):
        trained.denoise(adata)


def test_batches_that_differ_as_text_alone_stay_apart(new_scvi, make):
    adata = put_on_plates(make(), ["1", "1.0"])
    trained = new_scvi().fit(adata)
    assert trained.batches_.tolist() == ["1", "1.0"]
    out = trained.denoise(adata, rng=0)
    adata.obs["plate"] = "1"
    apart = np.abs(trained.denoise(adata, rng=0) - out).max(axis=1)
    assert not apart[::2].any()
    assert (apart[1::2] > 1e-3).all()
