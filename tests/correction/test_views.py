import subprocess
import sys

import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.correction import PEA, Augmentation, _views, augment


@pytest.fixture
def data(plates):
    """Embedding, batch codes and controls of ninety rows."""
    return plates((8, 12, 10))


def same(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_view_is_an_epoch_of_the_augmentation(data):
    x, batch, control = data
    views = augment(x, batch, control, n_views=3, rng=7)
    augmentation = Augmentation(PEA(), x, batch, control, seed=int(np.random.default_rng(7).integers(2**63)))
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    for epoch in range(3):
        augmentation.start_epoch(epoch)
        np.testing.assert_array_equal(views.values[epoch], augmentation(torch.as_tensor(x).float(), rows, codes))
        np.testing.assert_array_equal(views.steps[epoch], augmentation.draw(rows, codes, epoch).steps)
    assert [part.shape for part in views] == [(3, 90, 5), (3, 90, 3), (3, 90)]
    assert [part.dtype for part in views] == [np.float32, bool, np.int64]


@pytest.mark.parametrize("granularity", ["row", "batch"])
def test_blocks_do_not_show(data, monkeypatch, granularity):
    x, batch, control = data
    whole = augment(x, batch, control, n_views=2, rng=0, pea={"granularity": granularity})
    monkeypatch.setattr(_views, "BLOCK", 7)
    parts = augment(x, batch, control, n_views=2, rng=0, pea={"granularity": granularity})
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-5, atol=1e-5)
    same(parts[1:], whole[1:])
    assert (len(np.unique(whole.steps[0], axis=0)) == 1) == (granularity == "batch")


def test_the_seed_decides(data):
    x, batch, control = data
    once = augment(x, batch, control, n_views=3, rng=3)
    same(augment(x, batch, control, n_views=3, rng=np.random.default_rng(3)), once)
    same(augment(x, batch, control, n_views=1, rng=3), [part[:1] for part in once])
    assert (once.steps[0] != once.steps[1]).any()
    assert (augment(x, batch, control, n_views=3, rng=4).steps != once.steps).any()
    rng = np.random.default_rng(3)
    for generator in (rng, None):
        first, second = (augment(x, batch, control, rng=generator) for _ in range(2))
        assert (first.steps != second.steps).any()


def test_leaves_its_input_alone_and_takes_any_layout(data):
    x, batch, control = data[0].astype(float), *data[1:]
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
    ("change", "error", "expected"),
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
def test_refuses(refuses, data, change, error, expected):
    x, batch, control = data
    with refuses(error, **expected):
        augment(**{"x": x, "batch": batch, "control": control} | change)


def test_the_room_of_arrays_loads_without_torch():
    code = (
        "import sys, numpy as np, semiclip.correction as room; print('torch' in sys.modules)\n"
        "room.augment(np.eye(4), np.zeros(4, dtype=int), np.ones(4, dtype=bool)); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]
