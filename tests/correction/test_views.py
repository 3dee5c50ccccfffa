import subprocess
import sys

import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.correction import PEA, Augmentation, _views, augment, fit


def study(n=90, d=5, seed=0):
    """Three batches with an offset each, a third of the rows controls."""
    rng = np.random.default_rng(seed)
    batch = rng.permutation(np.arange(n) % 3)
    control = rng.random(n) < 1 / 3
    control[[np.flatnonzero(batch == code)[i] for code in range(3) for i in range(2)]] = True
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3 * batch[:, None], batch, control


def same(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_view_is_an_epoch_of_the_augmentation():
    x, batch, control = study()
    views = augment(x, batch, control, n_views=3, rng=7)
    augmentation = Augmentation(PEA(), x, batch, control, seed=int(np.random.default_rng(7).integers(2**63)))
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    for epoch in range(3):
        augmentation.start_epoch(epoch)
        np.testing.assert_array_equal(views.values[epoch], augmentation(torch.as_tensor(x).float(), rows, codes, epoch))
        np.testing.assert_array_equal(views.steps[epoch], augmentation.draw(rows, codes, epoch).steps)
    assert [part.shape for part in views] == [(3, 90, 5), (3, 90, 3), (3, 90)]
    assert [part.dtype for part in views] == [np.float32, bool, np.int64]


@pytest.mark.parametrize("granularity", ["row", "batch"])
def test_blocks_do_not_show(monkeypatch, granularity):
    x, batch, control = study()
    whole = augment(x, batch, control, n_views=2, rng=0, pea={"granularity": granularity})
    monkeypatch.setattr(_views, "BLOCK", 7)
    parts = augment(x, batch, control, n_views=2, rng=0, pea={"granularity": granularity})
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-5, atol=1e-5)
    same(parts[1:], whole[1:])
    assert (len(np.unique(whole.steps[0], axis=0)) == 1) == (granularity == "batch")


def test_with_all_controls_every_row_is_corrected_by_the_steps_it_kept():
    x, batch, control = study()
    views = augment(x, batch, control, pea={"control_law": "all", "ridge": 0.5, "clip": None}, n_views=8, rng=0)
    seen = set()
    for values, steps, n_controls in zip(*views, strict=True):
        for row in range(len(x)):
            pool = x[control & (batch == batch[row])]
            kept = [step for step, is_kept in zip(("center", "scale", "whiten"), steps[row], strict=True) if is_kept]
            ridge = 0.5 * (1 if "scale" in kept else pool.var(axis=0).mean())
            expected = fit(kept, pool, whiten={"ridge": ridge})(x[row : row + 1])[0]
            np.testing.assert_allclose(values[row], expected, rtol=1e-4, atol=1e-4)
            assert n_controls[row] == (len(pool) if kept else 0)
            seen.add(tuple(kept))
    assert len(seen) == 8


def test_the_seed_decides():
    x, batch, control = study()
    once = augment(x, batch, control, n_views=3, rng=3)
    same(augment(x, batch, control, n_views=3, rng=np.random.default_rng(3)), once)
    same(augment(x, batch, control, n_views=1, rng=3), [part[:1] for part in once])
    assert (once.steps[0] != once.steps[1]).any()
    assert (augment(x, batch, control, n_views=3, rng=4).steps != once.steps).any()
    rng = np.random.default_rng(3)
    for generator in (rng, None):
        first, second = (augment(x, batch, control, rng=generator) for _ in range(2))
        assert (first.steps != second.steps).any()


def test_leaves_its_input_alone_and_takes_any_layout():
    x, batch, control = study()
    before = x.copy()
    views = augment(x, batch, control, rng=0)
    same(augment(np.asfortranarray(x), batch.astype(np.int8), control, rng=0), views)
    whole = augment(x.astype(np.float32), batch, control, rng=0, pea={"drop_probability": 1.0})
    whole.values[:] = 0
    np.testing.assert_array_equal(x, before)
    read_only = x.astype(np.float32)
    read_only.flags.writeable = False
    np.testing.assert_allclose(augment(read_only, batch, control, rng=0).values, views.values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        *(({"pea": pea}, errors.BadValue, {"name": "pea", "value": pea}) for pea in (False, None)),
        ({"pea": 3}, errors.WrongType, {"got": int}),
        ({"pea": {"steps": 2}}, errors.UnknownChoice, {"value": "steps"}),
        ({"n_views": 0}, errors.BadValue, {"name": "n_views", "value": 0}),
        ({"fallback": "skip"}, errors.UnknownChoice, {"name": "fallback"}),
        ({"x": np.zeros((90, 5), dtype=int)}, errors.WrongDtype, {"dtype": np.int64}),
        ({"x": np.zeros((80, 5))}, errors.WrongShape, {"shape": ((80, 5), (90,), (90,))}),
        ({"pea": {"min_controls": 40, "max_controls": None}}, errors.TooFewControls, {"needed": 40}),
    ],
)
def test_refuses(refuses, change, error, data):
    x, batch, control = study()
    with refuses(error, **data):
        augment(**{"x": x, "batch": batch, "control": control} | change)


def test_the_room_of_arrays_loads_without_torch():
    code = (
        "import sys, numpy as np, semiclip.correction as room; print('torch' in sys.modules)\n"
        "room.augment(np.eye(4), np.zeros(4, dtype=int), np.ones(4, dtype=bool)); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]
