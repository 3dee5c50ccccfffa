"""What one device draws and fits in an epoch of small random data, beside the CPU."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from semiclip import _counter_rng
from semiclip.correction import PEA
from semiclip.correction._augmentation import Augmentation
from semiclip.model._tensors import PairedTensors

N_ROWS, SEED, EPOCH = 5_000, 3, 2
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}  # of means and scales of values near 1, in float32


def compare_with_cpu(device: torch.device) -> dict[str, dict[str, bool]]:
    """Return of each part of :func:`draw_on` whether the device has what the CPU has."""
    here, there = draw_on(torch.device("cpu")), draw_on(device)
    alike = dict.fromkeys(here, torch.equal) | {"fits": partial(torch.allclose, **TOLERANCE)}
    return {
        kind: {name: alike[kind](part, there[kind][name].cpu()) for name, part in parts.items()}
        for kind, parts in here.items()
    }


def draw_on(device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Return the draws of rows, the random controls of PEA's banks, and what is fitted on these controls.

    The first two are the same bits on every device; the last differs by rounding.
    """
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N_ROWS, 16), dtype=np.float32), rng.standard_normal((N_ROWS, 8), dtype=np.float32)
    key, batch, control = rng.integers(0, 50, N_ROWS), rng.integers(0, 4, N_ROWS), rng.random(N_ROWS) < 0.2
    tensors = PairedTensors.from_arrays(x, y, key, key, batch).to(device)
    rows = torch.arange(N_ROWS, device=device)
    augmentation = Augmentation(PEA(), x, batch, control, seed=SEED, device=device)
    augmentation.start_epoch(EPOCH)
    order, pairs = _counter_rng.permutation(N_ROWS, 1, EPOCH, device=device), tensors.pair(rows, rows, 1, EPOCH)
    draw = augmentation.draw(rows, tensors.batch, EPOCH)

    banks, controls = {"moments": augmentation.moments, "transforms": augmentation.bank}, {}
    for name, bank in banks.items():
        entry = torch.arange(len(bank.mean), device=device)
        parts = bank.draw_controls(entry, torch.full_like(entry, EPOCH))
        whats = ("batches", "numbers", "subsets")
        controls |= {f"{what} of {name}": part for what, part in zip(whats, parts, strict=True)}
    fits = {f"mean of {name}": bank.mean for name, bank in banks.items()} | {"scale": augmentation.moments.scale}
    return {"draws": {"order": order, "partner": pairs.teacher, **draw._asdict()}, "controls": controls, "fits": fits}
