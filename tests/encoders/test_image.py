import json
import sys
from types import SimpleNamespace

import anndata
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from semiclip import errors
from semiclip.encoders import ImageEncoder

BARE = {"rescale": None, "device": "cpu", "progress_bar": False}


def pictures(n=3, channels=3, height=16, width=16, seed=0, dtype=np.float32):
    values = np.random.default_rng(seed).uniform(0, 1, (n, channels, height, width))
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * 4000).astype(dtype)


def convolution(channels=3, d=5, seed=0):
    """A network whose output depends on where things are, with parts that differ between training and evaluation."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 4, stride=4), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.LazyLinear(d)
    )


@pytest.fixture
def network():
    model = convolution()
    model(torch.zeros(2, 3, 16, 16))  # gives the lazy layer its size
    return model


def bare(model, values):
    with torch.no_grad():
        return model.eval()(torch.as_tensor(values)).numpy()


def test_is_the_bare_model_on_images_of_one_tile(network):
    images = pictures(n=5)
    out = ImageEncoder(network, channels="joint", size=16, **BARE).encode(images)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, bare(network, images))


def test_separate_channels_are_embedded_alone_and_follow_each_other(network):
    images = pictures(channels=4)
    out = ImageEncoder(network, size=16, **BARE).encode(images)
    expected = [bare(network, np.repeat(images[:, [channel]], 3, axis=1)) for channel in range(4)]
    np.testing.assert_allclose(out, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)


def test_a_model_of_one_channel_is_given_one(network):
    def one(x):
        assert x.shape[1:] == (1, 16, 16)
        return x.flatten(1)

    images = pictures(channels=2)
    np.testing.assert_array_equal(ImageEncoder(one, size=16, **BARE).encode(images), images.reshape(3, -1))
    three = ImageEncoder(lambda x: network.eval()(x), size=16, in_channels=3, **BARE).encode(images)
    np.testing.assert_allclose(three, ImageEncoder(network, size=16, **BARE).encode(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", ["joint", "separate"])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_tiles_are_averaged_whatever_the_batches(network, channels, batch_size):
    images = pictures(height=40, width=16)
    encoder = ImageEncoder(network, channels=channels, size=16, batch_size=batch_size, **BARE)
    tiles = [images[:, :, top : top + 16] for top in (0, 12, 24)]  # three tiles of 16 cover 40
    expected = np.mean([encoder.encode(tile) for tile in tiles], axis=0)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-5, atol=1e-6)


def test_tiles_go_down_and_across():
    image = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    out = ImageEncoder(lambda x: x[:, 0, :1, 0], size=4, **BARE).encode(image)
    np.testing.assert_array_equal(out, [[(0 + 4 + 32 + 36) / 4]])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 200))
def test_as_few_tiles_as_cover_a_side(size, more):
    length = size + more - 1
    columns = []
    image = np.arange(length, dtype=np.float32).reshape(1, 1, 1, length).repeat(size, axis=2)
    encoder = ImageEncoder(lambda x: columns.extend(x[:, 0, 0, 0].tolist()) or x[:, 0, 0, :1], size=size, **BARE)
    encoder.encode(image)
    assert len(columns) == -(-length // size)
    assert columns[0] == 0
    assert columns[-1] == length - size
    assert all(0 <= step <= size for step in np.diff(columns))


def test_small_images_are_enlarged_with_their_proportions():
    image = pictures(n=2, channels=1, height=4, width=8)
    out = ImageEncoder(lambda x: x.flatten(1), size=8, **BARE).encode(image)
    big = nn.functional.interpolate(torch.as_tensor(image), (8, 16), mode="bilinear", align_corners=False).numpy()
    np.testing.assert_array_equal(out, (big[..., :8] + big[..., 8:]).reshape(2, -1) / 2)


def identity(**arguments):
    return ImageEncoder(lambda x: x.flatten(1), channels="joint", size=16, device="cpu", **arguments)


def test_channels_are_rescaled_by_their_percentiles():
    images = pictures(dtype=np.uint16)
    out = identity(rescale=(1, 90)).encode(images).reshape(images.shape)
    for image, values in zip(images.reshape(-1, 256), out.reshape(-1, 256), strict=True):
        low, high = np.percentile(image, [1, 90])
        np.testing.assert_allclose(values, ((image - low) / (high - low)).clip(0, 1), atol=1e-6)
    images = np.full((1, 2, 16, 16), 700, dtype=np.uint16)
    images[0, 1, 3, 4] = 900
    constant, speck = identity(rescale=(1, 90)).encode(images).reshape(2, 16, 16)
    assert not constant.any() and speck[3, 4] == speck.sum() == 1


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (bool, 1)])
def test_rescaling_by_the_type(dtype, largest):
    images = np.arange(256).reshape(1, 1, 16, 16).astype(dtype)
    out = identity(rescale="dtype").encode(images)
    np.testing.assert_array_equal(out[0], images.ravel().astype(np.float32) / np.float32(largest))


def test_mean_and_std_come_after_rescaling():
    images = pictures(channels=2, dtype=np.float64)
    out = identity(rescale=None, normalize=((0.1, 0.2), 2.0)).encode(images).reshape(images.shape)
    np.testing.assert_allclose(out, (images - np.reshape([0.1, 0.2], (2, 1, 1))) / 2, atol=1e-6)


def test_tokens_and_maps_become_vectors():
    images = pictures()
    mean, cls = images.reshape(3, 3, -1).mean(1), images[:, 0].reshape(3, -1)
    for model, pool, expected in (
        (lambda x: x.flatten(2), "mean", mean),
        (lambda x: x.flatten(2), "cls", cls),
        (lambda x: SimpleNamespace(last_hidden_state=x.flatten(2)), "mean", mean),
        (lambda x: SimpleNamespace(last_hidden_state=x.flatten(2)), "cls", cls),
        (lambda x: SimpleNamespace(pooler_output=x[:, :, :1, :1]), "pooler", images[:, :, 0, 0]),
        (lambda x: x, "mean", images.mean((2, 3))),
    ):
        out = ImageEncoder(model, channels="joint", size=16, pool=pool, **BARE).encode(images)
        np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_leaves_the_model_and_the_images_as_they_were(network):
    network.train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = pictures()
    kept, state = images.copy(), torch.random.get_rng_state()
    ImageEncoder(network, size=16, device="cpu").encode(images)
    assert [module.training for module in network] == [True, False, True, True, True, True]
    assert all((before[name] == value).all() for name, value in network.state_dict().items())
    np.testing.assert_array_equal(images, kept)
    assert (torch.random.get_rng_state() == state).all()


def test_a_model_that_draws_gives_the_same_values_each_time():
    encoder = ImageEncoder(lambda x: torch.rand(len(x), 4), size=16, **BARE)
    np.testing.assert_array_equal(encoder.encode(pictures()), encoder.encode(pictures()))


@pytest.mark.parametrize(
    ("arguments", "error", "data"),
    [
        ({"channels": "all"}, errors.UnknownChoice, {"value": "all", "choices": ["separate", "joint"]}),
        ({"pool": "max"}, errors.UnknownChoice, {"name": "pool", "choices": ["mean", "cls", "pooler"]}),
        ({"size": 0}, errors.BadValue, {"name": "size", "value": 0}),
        ({"rescale": "max"}, errors.BadValue, {"name": "rescale"}),
        ({"rescale": (90, 10)}, errors.BadValue, {"value": (90, 10)}),
        ({"normalize": 0.5}, errors.BadValue, {"name": "normalize"}),
        ({"normalize": (0, 0)}, errors.BadValue, {"value": (0, 0)}),
        ({"model": 3}, errors.WrongType, {"name": "model", "got": int}),
    ],
)
def test_refuses_arguments(arguments, error, data, refuses):
    with refuses(error, **data):
        ImageEncoder(**{"model": nn.Flatten(), **arguments})


@pytest.mark.parametrize(
    ("images", "error", "data"),
    [
        (anndata.AnnData(np.ones((2, 3))), errors.WrongType, {"got": anndata.AnnData}),
        (np.array([["a"]]), errors.WrongDtype, {"dtype": np.dtype("<U1")}),
        (np.ones((3, 16, 16)), errors.WrongShape, {"shape": (3, 16, 16)}),
        (np.ones((0, 3, 16, 16)), errors.WrongShape, {"shape": (0, 3, 16, 16)}),
        (pictures(channels=5), errors.Mismatch, {"got": 5, "expected": 3}),
        (np.full((2, 3, 16, 16), np.nan), errors.NotFinite, {"rows": [0, 1]}),
    ],
)
def test_refuses_images(network, images, error, data, refuses):
    with refuses(error, **data):
        ImageEncoder(network, channels="joint", size=16, device="cpu").encode(images)


@pytest.mark.parametrize(
    ("model", "arguments", "error", "data"),
    [
        (lambda x: (x, x), {}, errors.WrongType, {"got": tuple}),
        (lambda x: x[:1].flatten(1), {}, errors.WrongType, {"got": torch.Tensor}),
        (lambda x: x, {"pool": "cls"}, errors.BadValue, {"name": "pool", "value": "cls"}),
        (lambda x: x, {"pool": "pooler"}, errors.BadValue, {"name": "pool", "value": "pooler"}),
        (lambda x: x.flatten(1) / 0, {}, errors.NotFinite, {"rows": [0, 1, 2]}),
        (lambda x: x, {"normalize": ((0, 0, 0), 1)}, errors.WrongShape, {"shape": (3, 1)}),
    ],
)
def test_refuses_what_a_model_returns(model, arguments, error, data, refuses):
    with refuses(error, **data):
        ImageEncoder(model, size=16, **BARE, **arguments).encode(pictures())


TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}


@pytest.fixture
def saved(tmp_path):
    """Save a tiny transformer with random weights, as if it had been published."""
    transformers = pytest.importorskip("transformers")

    def save(kind="ViTModel"):
        torch.manual_seed(0)
        cls = getattr(transformers, kind)
        model = cls(cls.config_class(**TINY, patch_size=8)).eval()
        model.save_pretrained(tmp_path)
        statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 32}}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(statistics))
        return model

    return save


@pytest.mark.parametrize("pool", ["mean", "cls", "pooler"])
def test_a_folder_of_transformers_brings_size_and_statistics(saved, tmp_path, pool, refuses):
    model = saved()
    encoder = ImageEncoder(tmp_path, channels="joint", pool=pool, **BARE)
    assert (encoder.size, encoder.in_channels) == (32, 3)
    images = pictures(height=32, width=32)
    mean, std = np.reshape([0.5, 0.4, 0.3], (3, 1, 1)), np.reshape([0.2, 0.3, 0.4], (3, 1, 1))
    with torch.no_grad():
        out = model(torch.as_tensor((images - mean) / std, dtype=torch.float32))
    expected = {"mean": out.last_hidden_state.mean(1), "cls": out.last_hidden_state[:, 0], "pooler": out.pooler_output}
    np.testing.assert_allclose(encoder.encode(images), expected[pool].numpy(), rtol=1e-4, atol=1e-5)
    assert encoder.settings["model"] == str(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with refuses(errors.BadValue, name="normalize", value="model"):
        ImageEncoder(tmp_path)
    assert ImageEncoder(tmp_path, normalize=None).size == 32


def test_settings_name_mean_and_standard_deviation():
    normalize = ImageEncoder(convolution(), normalize=((0.5, 0.25, 0.75), 2), **BARE).settings["normalize"]
    assert {name: values.tolist() for name, values in normalize.items()} == {"mean": [0.5, 0.25, 0.75], "std": [2.0]}
    assert ImageEncoder(convolution(), normalize=None, **BARE).settings["normalize"] is None


def test_weights_that_were_not_published_are_not_made_up_and_half_precision_is_widened(saved, tmp_path, refuses):
    saved("ViTForImageClassification").half().save_pretrained(tmp_path)
    with refuses(errors.Refused, items=["pooler.dense.bias", "pooler.dense.weight"]):
        ImageEncoder(tmp_path, pool="pooler")
    out = ImageEncoder(tmp_path, **BARE).encode(pictures(height=32, width=32))
    assert (out.shape, out.dtype) == ((3, 48), np.float32)


def test_a_masked_autoencoder_sees_all_of_an_image(saved, tmp_path):
    model = saved("ViTMAEModel")
    images = pictures(height=32, width=32)
    encoder = ImageEncoder(tmp_path, channels="joint", normalize=None, **BARE)
    out = encoder.encode(images)
    np.testing.assert_array_equal(out, encoder.encode(images))
    model.config.mask_ratio = 0.0
    with torch.no_grad():
        np.testing.assert_allclose(out, model(torch.as_tensor(images)).last_hidden_state.mean(1), rtol=1e-4, atol=1e-5)


def test_code_of_a_model_is_not_run(saved, tmp_path):
    saved()
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        ImageEncoder(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["timm/resnet10t", "resnet10t"])
def test_models_of_timm_come_with_size_and_statistics(monkeypatch, name):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    calls = []
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: calls.append((args, kwargs)) or model)
    encoder = ImageEncoder(name, channels="joint", size=32, **BARE)
    assert calls == [(("resnet10t",), {"pretrained": True, "num_classes": 0})]
    config = timm.data.resolve_model_data_config(model)
    images = pictures(height=32, width=32)
    mean, std = (np.reshape(config[key], (3, 1, 1)) for key in ("mean", "std"))
    expected = bare(model, ((images - mean) / std).astype(np.float32))
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)
    assert ImageEncoder(name, **BARE).size == config["input_size"][-1]


@pytest.mark.parametrize(("package", "name"), [("timm", "resnet10t"), ("transformers", "owner/model")])
def test_names_what_to_install(monkeypatch, package, name, refuses):
    monkeypatch.setitem(sys.modules, package, None)
    with refuses(errors.MissingExtra, package=package):
        ImageEncoder(name)
