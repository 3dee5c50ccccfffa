import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiclip import errors
from semiclip.metrics import preservation_split


@pytest.fixture
def grid():
    """Each of 50 perturbations and 5 controls in each of 40 batches."""
    batch = np.repeat(np.arange(40), 55)
    perturbation = np.tile(np.append(np.arange(50).astype(str), ["control"] * 5), 40)
    return batch, perturbation, perturbation == "control"


def test_shares_and_what_is_in_the_parts(grid):
    batch, perturbation, control = grid
    split = preservation_split(*grid, rng=0)
    perturbed = [part[~control[part]] for part in split]
    assert [len(part) / 2000 for part in perturbed] == pytest.approx([0.49, 0.21, 0.09])
    train, seen, unseen = perturbed
    old, new = set(batch[train]), set(batch[seen])
    assert len(old) == 28
    assert not old & new
    assert set(batch[unseen]) == new
    trained, unknown = set(perturbation[train]), set(perturbation[unseen])
    assert len(trained) == 35
    assert len(unknown) == 15
    assert not trained & unknown
    assert set(perturbation[seen]) == trained
    for part, batches in zip(split, (old, new, new), strict=True):
        np.testing.assert_array_equal(part[control[part]], np.flatnonzero(control & np.isin(batch, list(batches))))


@given(st.integers(2, 12), st.integers(2, 12), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_parts_are_disjoint_beside_shared_controls(n_batches, n_perturbations, fraction, seed):
    batch = np.repeat(np.arange(n_batches), n_perturbations + 1)
    perturbation = np.tile(np.arange(n_perturbations + 1), n_batches)
    control = perturbation == n_perturbations
    split = preservation_split(batch, perturbation, control, train_fraction=fraction, rng=seed)
    for part in split:
        assert (np.diff(part) > 0).all()
        assert not control[part].all()
    train, seen, unseen = split
    assert not set(batch[train]) & set(batch[unseen])
    np.testing.assert_array_equal(np.intersect1d(seen, unseen), seen[control[seen]])


def test_the_seed_decides_and_labels_of_controls_do_not_count(grid):
    batch, perturbation, control = grid
    assert not np.array_equal(preservation_split(*grid, rng=0).train, preservation_split(*grid, rng=1).train)
    several = np.where(control, np.arange(len(batch)).astype(str), perturbation)
    for a, b in zip(
        preservation_split(*grid, rng=0),
        preservation_split(batch, several, control, rng=np.random.default_rng(0)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"train_fraction": 1.0}, errors.BadValue, {"name": "train_fraction", "value": 1.0}),
        ({"train_fraction": 0}, errors.BadValue, {"value": 0}),
        ({"train_fraction": np.nan}, errors.BadValue, {"name": "train_fraction"}),
        ({"batch": np.zeros(6)}, errors.TooFew, {"what": "batches", "number": 1, "needed": 2}),
        ({"batch": np.array(["a", "b", "a", "b", None, "b"], object)}, errors.MissingValues, {"where": "batch"}),
        ({"perturbation": np.array([9, 9, 1, 1, 1, 1])}, errors.TooFew, {"number": 1, "needed": 2}),
        ({"perturbation": np.ones(5)}, errors.WrongShape, {"where": "perturbation", "shape": (5,)}),
        ({"perturbation": np.array([9, 9, 1, 2, np.nan, 2])}, errors.MissingValues, {"where": "perturbation"}),
        ({"control": np.array([1, 1, 0, 0, 0, 0])}, errors.WrongType, {"name": "control"}),
        ({"control": np.ones(6, dtype=bool)}, errors.TooFew, {"number": 0}),
    ],
)
def test_refuses(refuses, change, error, data):
    arguments = {
        "batch": np.array([0, 1, 0, 1, 0, 1]),
        "perturbation": np.array([9, 9, 1, 2, 2, 1]),
        "control": np.array([True, True, False, False, False, False]),
    } | change
    with refuses(error, **data):
        preservation_split(**arguments, rng=0)


def test_parts_without_a_perturbed_row(refuses):
    batch, control = np.array([0, 0, 1, 1]), np.array([True, False, True, False])
    without = set()
    for seed in range(20):
        # each perturbation is in a batch of its own, and the draws cross in half of the cases
        try:
            split = preservation_split(batch, np.array([9, 1, 9, 2]), control, rng=seed)
        except errors.Empty as error:
            without.add(error.what)
        else:
            assert len(split.train) == len(split.unseen) == 2
            assert not split.seen.size  # rather than controls alone
    assert without == {"perturbed rows for the part 'train'"}
    lonely = np.array([0, 0, 1, 0])  # one batch has no perturbation
    with refuses(errors.Empty):
        preservation_split(lonely, np.array([9, 1, 9, 2]), control, rng=0)
