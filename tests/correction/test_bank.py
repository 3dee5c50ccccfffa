"""The bank of whitening transforms: when it is drawn, what it holds, and fewer controls than dimensions."""

import logging

import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.correction import PEA, Augmentation, _bank
from semiclip.datasets import simulate
from semiclip.pp import pea_correct

MOST = 8


@pytest.fixture
def small(plates):
    """Controls alone, of two batches."""
    return plates((9, 4), 0, d=3)


def transforms(augmentation, data, epochs, **options):
    """What the bank holds in each of the epochs, one after the other, a row for each transform."""
    made, held = augmentation(data, epoch=epochs[0], **options), []
    for epoch in epochs:
        made.start_epoch(epoch)
        parts = made.bank.mean, made.bank.weight, made.bank.rest, made.bank.into
        held.append(torch.cat([part.flatten(1) for part in parts if len(part)], dim=1))
    return held


@pytest.mark.parametrize(
    ("refresh", "law", "size", "versions"),
    [
        (1, "uniform", 8, [[epoch] * 8 for epoch in range(7)]),
        # the first two transforms of each batch are there at once, the others come before any is drawn anew
        (
            3,
            "log_uniform",
            4,
            [
                [0, 0, -1, -1],
                [0, 0, 1, -1],
                [0, 0, 1, 2],
                [3, 3, 1, 2],
                [3, 3, 4, 2],
                [3, 3, 4, 5],
                [6, 6, 4, 5],
            ],
        ),
        (5, "uniform", 2, [[0, 0], [0, 0], [0, 2], [0, 2], [0, 2], [5, 2], [5, 2]]),
        (0, "uniform", 8, [[0] * 8] * 7),
        (1, "all", 1, [[0]] * 7),
    ],
)
def test_transforms_are_drawn_anew_when_they_are_due(augmentation, small, refresh, law, size, versions):
    """A run that is taken up again has the transforms that it would have had, and rows pick from those alone."""
    options = {"bank_refresh": refresh, "control_law": law, "seed": 2, "bank_size": size if size < 8 else 0}
    held = transforms(augmentation, small, range(7), **options)
    for epoch, of_place in enumerate(versions):
        version = torch.tensor(of_place)
        for earlier in range(epoch):
            same = (held[epoch] == held[earlier]).all(dim=1).view(4, size)  # two batches, scaled and unscaled
            assert torch.equal(same.all(dim=0), version == torch.tensor(versions[earlier]))
        assert torch.equal(transforms(augmentation, small, [epoch], **options)[0], held[epoch])
        assert torch.equal(held[epoch].any(dim=1).view(4, size), (version >= 0).expand(4, size))
        made, codes = augmentation(small, epoch=epoch, **options), torch.zeros(500, dtype=torch.long)
        picked = made.draw(torch.arange(500), codes, epoch).transform
        assert set((picked % size).tolist()) == {place for place, there in enumerate(of_place) if there >= 0}
    other = transforms(augmentation, small, [6], **options | {"seed": 3})[0]
    assert torch.equal(other, held[6]) == (law == "all")


def test_nothing_is_computed_for_transforms_that_are_there(augmentation, small):
    made = augmentation(small, bank_refresh=2, bank_size=2)
    for epoch in (0, 2, 3, 4, 5):
        made.bank.mean.zero_()
        made.start_epoch(epoch)
        drawn = made.bank.mean.any(dim=1).view(-1, 2)
        # the second of two is due in odd epochs, and was last due in epoch 1 when it is epoch 2
        expected = {0: [False, False], 2: [True, True], 3: [False, True], 4: [True, False], 5: [False, True]}
        assert torch.equal(drawn, torch.tensor(expected[epoch]).expand(4, 2))


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize("d", [3, 12, 40])
def test_how_many_are_fitted_together_does_not_matter(augmentation, plates, at_once, d, monkeypatch):
    data = plates((9, 4), 0, d=d)
    expected = transforms(augmentation, data, [0])[0]
    monkeypatch.setattr(_bank, "AT_ONCE", at_once)
    monkeypatch.setattr(_bank, "AT_ONCE_FEW", at_once * 9 * d)
    np.testing.assert_allclose(transforms(augmentation, data, [0])[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kinds", "size"),
    [
        ({}, [True, False], MOST),
        ({"bank_size": 40}, [True, False], 40),
        ({"methods": "tvn", "min_steps": 3, "bank_size": 3}, [True], 3),
        ({"methods": "tvn", "min_steps": 2}, [True, False], MOST),
        ({"control_law": "all", "bank_size": 8}, [True, False], 1),
    ],
)
def test_each_batch_has_transforms_for_scaled_and_for_unscaled_controls(augmentation, small, options, kinds, size):
    made = augmentation(small, **options)
    assert (made.bank.kinds, made.bank.size) == (kinds, size)
    assert made.bank.mean.shape == (2 * len(kinds) * size, 3)
    assert made.bank.weight.shape == (2 * len(kinds) * size, 3, 3)
    codes = torch.arange(2).repeat_interleave(10_000)
    draw = made.draw(torch.arange(20_000), codes, 0)
    kind = (~draw.steps[:, 1]).long() if len(kinds) == 2 else 0
    assert torch.equal(draw.transform // size, codes * len(kinds) + kind)
    assert len(draw.transform[draw.steps[:, 2]].unique()) == 2 * len(kinds) * size


@pytest.mark.parametrize("options", [{"methods": ("center", "center_scale")}, {"drop_probability": 1}])
def test_without_whitening_there_is_none_and_controls_may_be_constant(refuses, augmentation, small, options):
    x, batch, control = small
    x[batch == 0] = 0.1
    made = augmentation(small, **options)
    assert made.bank is None
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    for epoch in range(30):
        made.start_epoch(epoch)
        assert torch.isfinite(made(torch.as_tensor(x) + 1, rows, codes)).all()
    with refuses(errors.NoVariation, items=["A"]):
        Augmentation(PEA(), *small, batch_names=["A", "B"])


@pytest.mark.parametrize("room", [0, 2, 3, MOST - 1, MOST, 1000])
def test_so_many_transforms_as_memory_holds(augmentation, small, room, monkeypatch, caplog):
    size = min(max(room, 2), MOST)
    bytes_ = room * 2 * 2 * 3 * 3 * 4  # batches, scaled and unscaled, features squared, bytes of a float32
    monkeypatch.setattr(_bank, "BANK_BYTES", bytes_)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        assert augmentation(small).bank.size == size
        assert augmentation(small, bank_size=40).bank.size == 40  # what is asked for is made
        assert augmentation(small, control_law="all").bank.size == 1
    assert [record.args for record in caplog.records] == ([] if size == MOST else [(size, bytes_)])


def test_how_often_transforms_are_drawn_follows_from_what_a_training_step_may_cost(plates):
    """Two batches have 32 transforms; 2**21 / 128**3 = 1 of them is affordable for each training step."""

    def refresh(steps_per_epoch, **options):
        return Augmentation(PEA(**options), *plates((128, 4), 0, d=128), steps_per_epoch=steps_per_epoch).bank.refresh

    assert [refresh(n) for n in (None, 1, 2, 8, 12, 16, 32)] == [1, 32, 16, 4, 3, 2, 1]
    assert [refresh(1, bank_refresh=n) for n in (0, 5)] == [0, 5]


@pytest.mark.parametrize(("steps", "told"), [(1, [(32, 32)]), (24, [(32, 2)]), (32, []), (None, [])])
def test_transforms_that_last_longer_than_an_epoch_are_told(plates, steps, told, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        for options in ({}, {"bank_refresh": 5}, {"control_law": "all"}):
            Augmentation(PEA(**options), *plates((128, 4), 0, d=128), steps_per_epoch=steps)
    assert [record.args for record in caplog.records] == told


# ---- fewer controls than dimensions


def test_small_plates_of_wide_embeddings_are_drawn_anew_in_every_epoch():
    """350 plates of 14 controls in 256 dimensions, and 127 mini-batches of 1,024 rows: the size of the paper."""
    batch = np.repeat(np.arange(350), 14)
    x = np.random.default_rng(0).normal(size=(len(batch), 256)).astype(np.float32)
    made = Augmentation(PEA(), x, batch, np.ones(len(batch), dtype=bool), steps_per_epoch=127)
    assert (made.bank.refresh, made.bank.size) == (1, MOST)
    assert made.bank.estimate_cost(torch.device("cuda")) <= 127 * _bank.COST_OF_A_STEP_CUDA
    held = sum(part.nbytes for part in (made.bank.mean, made.bank.rest, made.bank.into, made.bank.weight))
    assert held == 350 * 2 * 8 * (2 + 13 + 13) * 256 * 4  # mean, rest and factors of 13 directions, in float32


@pytest.mark.parametrize(("n_controls", "thin"), [((10, 9, 2), True), ((11, 9), False), ((25, 39), False)])
@pytest.mark.parametrize("ridge", [0.0, 1e-4, 1e-3, 0.01, 0.5])
def test_few_controls_give_what_a_whole_decomposition_gives(plates, augmentation, n_controls, thin, ridge):
    """A batch of 50 controls beside them makes every transform that of a (40, 40) matrix, on the same draws."""
    options = {"methods": "tvn", "ridge": ridge, "clip": None, "seed": 2}
    x, batch, control = plates((*n_controls, 50), 400, d=40)
    x[batch == 0, 3] = 7.0  # a constant feature
    few = batch < len(n_controls)
    alone, beside = (
        augmentation((x[few], batch[few], control[few]), **options),
        augmentation((x, batch, control), **options),
    )
    assert (alone.bank.few, alone.bank.thin) == (True, thin)
    assert (beside.bank.few, beside.bank.thin) == (False, False)
    rows, codes = torch.as_tensor(np.flatnonzero(few)), torch.as_tensor(batch[few])
    whitened = alone.draw(rows, codes, 0).steps[:, 2]  # whose draws do not depend on how many rows other batches have
    rows, codes = rows[whitened], codes[whitened]
    draw, other = (made.draw(rows, codes, 0) for made in (alone, beside))
    assert torch.equal(draw.steps, other.steps)
    assert torch.equal(draw.transform, other.transform)
    values = torch.as_tensor(x)[rows]
    out, expected = (made.apply(values, codes, draw).numpy() for made in (alone, beside))
    assert draw.steps[:, 2].sum() > 50
    size = np.abs(expected).max(axis=1, keepdims=True) + np.abs(values.numpy()).max(axis=1, keepdims=True)
    np.testing.assert_allclose(out / size, expected / size, rtol=0, atol=2e-6)


@pytest.mark.parametrize("d", [4, 5, 12, 13])
def test_factors_are_kept_where_they_are_half_of_a_matrix(plates, augmentation, d):
    bank = augmentation(plates((4, 3), 0, d=d)).bank
    assert bank.thin == (d > 12)  # with four controls two factors of 3 * d numbers instead of d * d
    assert bank.few == (d > 4)
    assert bank.weight.shape == (32, 3 if bank.thin else d, d)


def test_many_controls_of_which_few_are_drawn_are_decomposed(augmentation):
    """Products with many rows of zeros are more than some versions of LAPACK can decompose."""
    x = np.random.default_rng(0).normal(size=(6 * 255, 256)).astype(np.float32)
    data = x, np.repeat(np.arange(6), 255), np.ones(len(x), dtype=bool)
    bank = augmentation(data).bank
    assert bank.number.min() < 20
    assert torch.isfinite(bank.weight).all()


def test_directions_without_variation_never_make_views_infinite():
    """Decompositions of few controls may leave vectors of 1e-200 for these, whose squares are 0."""
    images = simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["image"]
    keys = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    pea_correct(images, use_rep="X_image", **keys, stochastic=True, n_views=4, rng=0)
    assert np.isfinite(images.obsm["X_image_pea"]).all()
