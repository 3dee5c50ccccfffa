"""Models of timm return the class token unless told otherwise; the record says how tokens were pooled."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import semiclip as scl
from semiclip import errors
from semiclip.encoders import ImageEncoder

BARE = {"channels": "joint", "rescale": None, "normalize": None, "device": "cpu", "progress_bar": False}


class Tokens(nn.Module):
    """A transformer after the ways of timm: a class token and one token for each of four patches."""

    def __init__(self, num_prefix_tokens=1, pools=("avg", "token")):
        super().__init__()
        self.num_prefix_tokens, self.pools, self.global_pool = num_prefix_tokens, pools, "token"

    def reset_classifier(self, num_classes, global_pool=None):
        assert num_classes == 0
        assert global_pool in self.pools
        self.global_pool = global_pool

    def forward(self, x):
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(2).transpose(1, 2)
        return patches.mean(1) if self.global_pool == "avg" else -torch.ones(len(x), 3)


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for timm, whose own models are tested below where it is installed."""
    models = {}
    config = {"input_size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3}
    data = SimpleNamespace(resolve_model_data_config=lambda model: config)
    module = SimpleNamespace(create_model=lambda name, **kwargs: models[name], data=data)
    monkeypatch.setitem(sys.modules, "timm", module)
    return models


def pictures():
    return np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_what_is_recorded_is_what_is_done(timm, pool):
    timm["vit"] = Tokens()
    encoder = ImageEncoder("timm/vit", pool=pool, **BARE)
    expected = pictures().mean((2, 3)) if pool == "mean" else -np.ones((5, 3))
    np.testing.assert_allclose(encoder.encode(pictures()), expected, atol=1e-6)
    assert encoder.settings["pool"] == pool


@pytest.mark.parametrize(
    ("model", "pool"),
    [(Tokens(), "pooler"), (Tokens(num_prefix_tokens=0), "cls"), (Tokens(pools=("token",)), "mean")],
)
def test_a_pool_that_the_model_does_not_have_is_refused(refuses, timm, model, pool):
    timm["vit"] = model
    with refuses(errors.BadValue, name="pool", value=pool):
        ImageEncoder("vit", pool=pool, **BARE)


def test_a_module_that_returns_vectors_records_no_pool(tmp_path):
    encoder = ImageEncoder(Tokens(), size=8, **BARE)
    assert encoder.encode(pictures()).tolist() == [[-1.0] * 3] * 5
    assert encoder.settings["pool"] is None
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(tmp_path / "a.png")
    table = pd.DataFrame({"Metadata_Plate": ["p"], "Metadata_Well": ["A1"], "FileName_a": ["a.png"]})
    for model, recorded in ((Tokens(), None), (lambda x: x, "mean")):
        encoder = ImageEncoder(model, size=8, **BARE)
        adata = scl.io.images(table, encoder=encoder, folder=tmp_path, progress_bar=False)
        assert adata.uns["semiclip"]["X_image"]["params"].get("pool") == recorded


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_transformer_of_timm_pools_as_asked(monkeypatch, pool):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "reg_tokens": 2}
    model = timm.models.VisionTransformer(num_classes=0, **small)
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: model)
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    out = ImageEncoder("vit", pool=pool, size=32, **BARE).encode(images)
    with torch.inference_mode():
        tokens = model.eval().forward_features(torch.as_tensor(images))
    expected = tokens[:, 3:].mean(1) if pool == "mean" else tokens[:, 0]
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "mobilenetv3_small_050", "efficientvit_b0"])
def test_a_convolutional_network_of_timm_is_the_mean_of_its_map(monkeypatch, refuses, name):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.as_tensor(images)).numpy()
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: model)
    np.testing.assert_allclose(ImageEncoder(name, size=64, **BARE).encode(images), expected, rtol=1e-3, atol=1e-4)
    with refuses(errors.BadValue, name="pool", value="cls"):
        ImageEncoder(name, pool="cls", size=64, **BARE)
