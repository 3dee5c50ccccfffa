import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from semiclip._device import usable_device
from semiclip.augment import MDWGANGP, Expression
from semiclip.encoders import ImageEncoder, ScGPTEncoder, build
from semiclip.model import _decoder


def test_auto_is_a_cuda_gpu_or_the_cpu_and_no_other_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert usable_device() == usable_device("auto") == torch.device("cuda" if there else "cpu")


def test_a_device_may_be_named():
    assert usable_device("cpu") == usable_device(torch.device("cpu")) == torch.device("cpu")
    assert usable_device("meta").type == "meta"


def scgpt(device):
    encoder = ScGPTEncoder("folder", device=device)
    encoder._architecture = {"n_input": 3, "n_output": 4, "n_heads": 1, "n_hidden": 4, "n_layers": 1}
    encoder.network_, encoder.genes_ = build({"kind": "scgpt", **encoder._architecture}), pd.Index(list("abc"))
    return encoder.encode


def adata():
    from anndata import AnnData

    return AnnData(np.ones((2, 3)), var=pd.DataFrame(index=list("abc")))


def expression():
    values, codes = np.random.default_rng(0).poisson(5, (30, 4)), np.zeros(30, int)
    return Expression(values, codes, codes, pd.Index(list("abcd")))


COMPUTE = {
    "MDWGANGP": lambda device: MDWGANGP(device=device).fit(expression(), np.random.default_rng(0)),
    "scGPT": lambda device: scgpt(device)(adata()),
    "images": lambda device: ImageEncoder(nn.Flatten(), size=4, device=device).encode(np.zeros((1, 3, 4, 4), "f4")),
    "decoder": lambda device: _decoder.fit_decoder(np.ones((4, 2), "f4"), np.ones((4, 3), "f4"), device=device),
}


@pytest.mark.parametrize("compute", COMPUTE.values(), ids=COMPUTE)
def test_all_that_compute_read_a_device_alike(compute, monkeypatch):
    message = "device='abacus' cannot be used: .*; 'auto' takes a GPU if there is one"
    with pytest.raises(ValueError, match=message):
        compute("abacus")
    # a GPU that is not there in truth fails to be used, which shows that auto takes it
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        with pytest.raises((AssertionError, RuntimeError), match="CUDA|NVIDIA"):
            compute("auto")
