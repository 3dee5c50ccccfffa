import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from torch import nn

from semiclip.augment import MDWGANGP, Expression
from semiclip.encoders import ImageEncoder, ScGPTEncoder

IMAGES = np.ones((1, 3, 4, 4), "f4")


@pytest.fixture
def compute(tiny_scgpt):
    adata, folder = AnnData(np.ones((2, 3)), var=pd.DataFrame(index=list("abc"))), tiny_scgpt("abc")
    values, codes = np.random.default_rng(0).poisson(5, (30, 4)), np.zeros(30, int)
    expression = Expression(values, codes, codes, pd.Index(list("abcd")))
    return {
        "scgpt": lambda device: ScGPTEncoder(folder, device=device).fit(adata).encode(adata),
        "images": lambda device: ImageEncoder(nn.Flatten(), size=4, device=device).encode(IMAGES),
        "gan": lambda device: MDWGANGP(device=device).fit(expression, np.random.default_rng(0)),
    }


@pytest.mark.parametrize("name", ["scgpt", "images", "gan"])
def test_all_that_compute_read_a_device_alike(name, compute, monkeypatch):
    compute = compute[name]
    with pytest.raises(ValueError, match="abacus"):
        compute("abacus")
    # another accelerator than CUDA is taken only by name: not all have float64
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    # a GPU that is not there in truth fails to be used, which shows that auto takes it
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        with pytest.raises((AssertionError, RuntimeError), match="CUDA|NVIDIA"):
            compute("auto")


def test_a_function_is_given_values_on_the_cpu_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices = []

    def function(x):
        devices.append(x.device.type)
        return torch.ones(len(x), 2)

    for device in ("auto", "cpu", "meta"):
        ImageEncoder(function, size=4, device=device).encode(IMAGES)
    assert devices == ["cpu", "cpu", "meta"]
