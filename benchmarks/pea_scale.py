"""PEA's whitening transforms, beside the decomposition of a whole covariance matrix for each: seconds and memory.

The bank of `correction.Augmentation` is drawn for plates of random controls, and so are the same transforms the plain
way: the covariance of the same controls in float64, its eigendecomposition, a matrix in float32, sixteen at a time.
Both then whiten the same mini-batch of 1,024 rows, and must agree. An epoch has a step for every 1,024 of 130,000
rows; the step is that of the paper's adapter in a bare loop (`train_throughput.py`). `epochs_of_a_transform` is how
long the package keeps each in such epochs. The bank of moments is measured in its first epoch and in a later one, which
renews a thirty-second; the moments of 1,024 entries also row by row and as one product of masks with the controls for
each plate, of which the package chooses one.

Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from torch.nn.functional import embedding_bag
from train_throughput import BATCH, WIDTHS, adapter, hardware, step

from semiclip.correction import PEA, Augmentation

# plates, controls of each, dimensions
SIZES = (350, 14, 256), (20, 64, 256), (6, 32, 64), (6, 256, 256)
STEPS, TURNS = 130_000 // BATCH, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer plates")
    args = parser.parse_args()
    report("hardware", **hardware("cpu"))
    for n_plates, n_controls, d in SIZES:
        measure(min(n_plates, 20) if args.quick else n_plates, n_controls, d)


def measure(n_plates: int, n_controls: int, d: int) -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(n_plates, n_controls, d)) + 2 * rng.normal(size=(n_plates, 1, d))
    raw = raw.astype(np.float32)
    batch, control = np.repeat(np.arange(n_plates), n_controls), np.ones(n_plates * n_controls, dtype=bool)
    data = raw.reshape(-1, d), batch, control
    made = Augmentation(PEA(bank_refresh=1), *data)  # draws all in each epoch
    lasts = Augmentation(PEA(), *data, steps_per_epoch=STEPS).bank.refresh
    bank: Any = made.bank
    size = {"n_plates": n_plates, "n_controls": n_controls, "n_dimensions": d}
    bank.start_epoch(2 * TURNS)  # the first draw finds memory not yet laid out
    turns = [timed(lambda turn=turn: bank.start_epoch(turn)) for turn in range(TURNS)]
    started = time.perf_counter()
    matrices = decompose_covariances(bank, torch.as_tensor(raw), 2 * TURNS - 1)
    plain, per_step = time.perf_counter() - started, step_seconds()
    turns += [timed(lambda turn=turn: bank.start_epoch(turn)) for turn in range(TURNS, 2 * TURNS)]
    seconds, held = sum(turns) / len(turns), sum(part.nbytes for part in (bank.weight, bank.rest, bank.into))
    report(
        "bank", **size, n_transforms=len(matrices), epochs_of_a_transform=lasts, seconds=round(seconds, 3),
        plain_seconds=round(plain, 2), ratio=round(plain / seconds, 1), gb=round(held / 1e9, 3),
        plain_gb=round(matrices.nbytes / 1e9, 3), share_of_an_epoch=round(seconds / lasts / (STEPS * per_step), 3),
        plain_share_of_an_epoch=round(plain / (STEPS * per_step), 2),
    )  # fmt: skip

    filled, renewed = (timed(lambda epoch=epoch: made.moments.start_epoch(epoch)) for epoch in (0, 1))
    report(
        "moments", **size, n_entries=len(made.moments.mean), seconds_at_first=round(filled, 3),
        seconds=round(renewed, 4), share_of_an_epoch=round(renewed / (STEPS * per_step), 4),
        **compare_moments(made),
    )  # fmt: skip

    code = torch.as_tensor(np.sort(rng.integers(n_plates, size=BATCH)))
    rows = torch.as_tensor(raw[code, 0] + rng.normal(size=(BATCH, d)).astype(np.float32))
    entry = torch.as_tensor(rng.integers(bank.size, size=BATCH)) + bank.first(code, code % 2 == 0)
    moved = rows - bank.mean[entry]

    def whiten_plainly() -> torch.Tensor:
        index = entry[:, None] * d + torch.arange(d)
        return embedding_bag(index, matrices.view(-1, d), mode="sum", per_sample_weights=moved)

    expected = whiten_plainly()
    difference = (bank.whiten(moved, entry) - expected).abs().max() / expected.abs().max()
    ours, plain = best(lambda: bank.whiten(moved, entry)), best(whiten_plainly)
    whole = best(lambda: made(rows, torch.arange(BATCH), code, 0))
    report(
        "whiten", **size, n_rows=BATCH, milliseconds=round(1e3 * ours, 2), plain_milliseconds=round(1e3 * plain, 2),
        ratio=round(plain / ours, 1), largest_difference=float(f"{difference:.1e}"),
        milliseconds_of_all_steps=round(1e3 * whole, 2),
    )  # fmt: skip


def decompose_covariances(bank: Any, raw: torch.Tensor, version: int) -> torch.Tensor:
    """Fit the transforms of a bank, (n, d, d), on controls (n_plates, n_controls, d), each by its covariance."""
    pea, everyone = bank.pea, raw.double()
    unit = everyone.std(dim=1, correction=0)
    matrices = torch.empty(len(bank.mean), raw.shape[2], raw.shape[2])
    for entry in torch.arange(len(matrices)).split(16):
        batch, number, chosen = bank.draw_controls(entry, torch.full_like(entry, version))
        weight = chosen[..., None] / number[:, None, None].double()
        controls = everyone[batch]
        controls = (controls - (weight * controls).sum(dim=1, keepdim=True)) * chosen[..., None]
        sd = torch.maximum((weight * controls**2).sum(dim=1).sqrt(), pea.scale_floor * unit[batch])
        scaled = entry // bank.size % 2 == 0
        sd = torch.where(scaled[:, None], sd, 1.0)
        ridge = pea.ridge * torch.where(scaled, 1.0, (unit[batch] ** 2).mean(dim=1))
        controls = controls / sd[:, None]
        values, vectors = torch.linalg.eigh(controls.mT @ (weight * controls))
        factors = (values.clamp(min=0) + ridge[:, None]).rsqrt()
        matrices[entry] = ((vectors * factors[:, None]) @ vectors.mT / sd[:, :, None]).float()
    return matrices


def compare_moments(made: Augmentation) -> dict[str, float]:
    """Time sums of drawn controls and their squares, row by row and plate by plate, for entries spread over plates."""
    pools, bank = made.pools, made.moments
    entry = torch.linspace(0, len(bank.mean) - 1, BATCH).long()
    code, number, chosen = bank.draw_controls(entry, torch.zeros_like(entry))
    weight = chosen.float() / number[:, None]
    values = pools.with_squares.view(len(pools.count), -1, pools.with_squares.shape[1])

    def by_row() -> torch.Tensor:
        return embedding_bag(pools.rows(code), pools.with_squares, mode="sum", per_sample_weights=weight)

    def by_plate() -> torch.Tensor:
        parts = weight.split(torch.bincount(code, minlength=len(values)).tolist())
        return torch.cat([part @ controls for part, controls in zip(parts, values, strict=True)])

    assert torch.allclose(by_row(), by_plate(), atol=1e-5)
    return {
        "by_row_milliseconds": round(1e3 * best(by_row), 3),
        "by_plate_milliseconds": round(1e3 * best(by_plate), 3),
    }


def step_seconds() -> float:
    """Return how long a training step of the paper's adapter takes."""
    net = adapter()
    optimizer = torch.optim.SGD(net.parameters(), 0.03, momentum=0.95)
    x, y = torch.randn(BATCH, WIDTHS[0]), torch.randn(BATCH, WIDTHS[-1])
    return best(lambda: step(net, optimizer, x, y))


def best(work: Any, turns: int = 7) -> float:
    return min(timed(work) for _ in range(turns))


def timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(figure: str, **values: Any) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


if __name__ == "__main__":
    main()
