import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from semiclip import errors
from semiclip.metrics import preservation, preservation_split, spearman, structural_integrity


def naive(predictions, targets, batch, control, *, uncentred=False):
    """The formula, written with loops."""
    distances, extents = [], []
    for label in sorted(set(batch.tolist())):
        rows = [i for i in range(len(batch)) if batch[i] == label]
        references = [i for i in rows if control[i]]
        if not references and not uncentred:
            continue
        distance = extent = 0.0
        for gene in range(targets.shape[1]):
            p0 = sum(predictions[i, gene] for i in references) / max(len(references), 1)
            y0 = sum(targets[i, gene] for i in references) / max(len(references), 1)
            for i in rows:
                y = targets[i, gene] - y0
                distance += (predictions[i, gene] - p0 - y) ** 2
                extent += y**2
        distances.append(distance**0.5 / len(rows))
        extents.append(extent**0.5 / len(rows))
    return 1 - (sum(distances) / len(distances)) / (2 * sum(extents) / len(extents))


@pytest.fixture
def study():
    """Targets in five batches of unequal size, of which the last has no control, and predictions of them."""
    rng = np.random.default_rng(0)
    batch = np.array(["a", "b", "c", "d", "e"])[rng.choice(5, 80, p=[0.4, 0.2, 0.2, 0.1, 0.1])]
    control = (rng.random(80) < 0.3) & (batch != "e")
    targets = rng.normal(size=(80, 7)) + 3 * (batch == "b")[:, None]
    return targets + rng.normal(size=targets.shape), targets, batch, control


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_naive_loop(study, dtype):
    predictions, targets, batch, control = study
    predictions, targets = predictions.astype(dtype), targets.astype(dtype)
    value = structural_integrity(predictions, targets, batch, control)
    assert type(value) is float
    assert value == pytest.approx(naive(predictions.astype(float), targets.astype(float), batch, control), abs=1e-12)


def test_blocks_change_nothing():
    rng = np.random.default_rng(0)
    targets, predictions = rng.normal(size=(2, 300, 30_000))  # 139 rows at a time
    batch, control = rng.integers(0, 2, 300), rng.random(300) < 0.5
    distances = []
    for rows in (batch == 0, batch == 1):
        p, y = (x[rows] - x[rows & control].mean(axis=0) for x in (predictions, targets))
        distances.append([np.linalg.norm(p - y) / rows.sum(), np.linalg.norm(y) / rows.sum()])
    error, extent = np.mean(distances, axis=0)
    expected = 1 - error / (2 * extent)
    assert structural_integrity(predictions, targets, batch, control) == pytest.approx(expected, abs=1e-12)


def test_exact_values(study):
    _, targets, batch, control = study

    def integrity(predictions):
        return structural_integrity(predictions, targets, batch, control)

    assert integrity(targets) == 1
    for constant in (1, 0.1, targets.mean(axis=0)):
        assert integrity(np.broadcast_to(constant, targets.shape)) == 0.5
    for scale in (3, 0.5, 0, 2, -0.5, -1, -3):
        assert integrity(scale * targets) == pytest.approx(1 - abs(1 - scale) / 2, abs=1e-14)


@given(st.integers(0, 2**32 - 1))
def test_a_constant_per_batch_changes_nothing_and_neither_do_order_and_scale(seed):
    rng = np.random.default_rng(seed)
    batch, control = rng.integers(0, 4, 30), rng.random(30) < 0.5
    control[0] = True
    predictions, targets = rng.normal(size=(2, 30, 3))
    data = predictions, targets, batch, control
    shift, other = rng.normal(size=(2, 4, 3))
    order, renamed = rng.permutation(30), np.array(["w", "z", "y", "x"])[batch]
    for same in (
        (predictions + shift[batch], targets + other[batch], batch, control),
        tuple(part[order] for part in data),
        (7 * predictions, 7 * targets, renamed, control),
    ):
        assert structural_integrity(*same) == pytest.approx(structural_integrity(*data), abs=1e-12)


def test_the_table_holds_the_measures_and_what_they_were_taken_over(study):
    predictions, targets, batch, control = study
    predictions[:, 2] = 4
    before = predictions.copy(), targets.copy()
    table = preservation(predictions, targets, batch, control)
    np.testing.assert_array_equal((predictions, targets), before)
    value = table.set_index("metric")["value"]
    assert list(table) == ["metric", "value", "n_obs", "n_batches", "n_dropped_batches", "n_constant_genes"]
    assert list(value.index) == ["structural_integrity", "spearman_gene", "spearman_sample", "preservation"]
    assert value["structural_integrity"] == structural_integrity(predictions, targets, batch, control)
    assert value["spearman_gene"] == pytest.approx(np.mean(spearman(predictions, targets)[0]))
    assert value["spearman_sample"] == pytest.approx(np.mean(spearman(predictions, targets, axis=1)[0]))
    assert value["preservation"] == 50 * (value["structural_integrity"] + value["spearman_gene"])
    counts = table.drop(columns=["metric", "value"]).drop_duplicates()
    assert counts.to_numpy().tolist() == [[80, 4, 1, 1]]
    assert preservation(targets, targets, batch, control)["value"].tolist() == pytest.approx([1, 1, 1, 100])
    for form in (sparse.csr_array, sparse.csc_matrix):
        pd.testing.assert_frame_equal(preservation(predictions, form(targets), batch, control), table)


@pytest.mark.parametrize(
    ("n_batches", "n", "control_share", "level", "score"),
    [(3000, 30_000, 0.03, 7, 46.4), (17, 10_000, 0.13, 1.5, 25)],
)
def test_the_released_evaluation_rewards_constant_predictions_where_batches_are_many(
    n_batches, n, control_share, level, score
):
    rng = np.random.default_rng(0)  # a mean profile so many times as large as its variation
    targets = (level * rng.choice([-1, 1], 30) + rng.normal(size=(n, 30))).astype(np.float32)
    data = np.broadcast_to(targets.mean(axis=0), targets.shape), targets
    data = *data, rng.integers(0, n_batches, n), rng.random(n) < control_share
    exact = preservation(*data)
    assert exact["value"].drop(2).tolist() == pytest.approx([0.5, 0, 25.0])
    assert set(exact["n_constant_genes"]) == {30}
    scores = [preservation(*data, legacy_subsample=True, rng=seed)["value"] for seed in (*range(8), 0)]
    assert np.mean(scores, axis=0)[3] == pytest.approx(score, abs=0.5)
    assert scores[0].tolist() == scores[-1].tolist() != scores[1].tolist()


@pytest.mark.parametrize(("n", "expected"), [(300, 300), (2000, 512), (51_200, 512), (51_201, 1024)])
def test_the_released_evaluation_sees_one_mini_batch_in_a_hundred(n, expected):
    targets = np.random.default_rng(0).normal(size=(n, 2))
    table = preservation(targets, targets, np.arange(n) % 3, np.arange(n) % 2 == 0, legacy_subsample=True, rng=0)
    assert set(table["n_obs"]) == {expected}


def test_the_released_evaluation_leaves_batches_without_controls_as_they_are(study):
    predictions, targets, batch, control = study
    table = preservation(*study, legacy_subsample=True)  # fewer than 512 rows are all taken
    assert table["value"][0] == pytest.approx(naive(predictions, targets, batch, control, uncentred=True), abs=1e-12)
    assert table["n_batches"][0] == 5
    assert table["n_dropped_batches"][0] == 0


@pytest.mark.parametrize("function", [structural_integrity, preservation])
@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"predictions": np.ones((4, 3))}, errors.Mismatch, {"got": (4, 2), "expected": (4, 3)}),
        ({"predictions": np.full((4, 2), np.nan)}, errors.NotFinite, {"where": "predictions", "rows": [0, 1, 2, 3]}),
        ({"targets": np.ones((4, 2), dtype=object)}, errors.WrongDtype, {"where": "targets", "dtype": object}),
        ({"batch": np.zeros(3)}, errors.WrongShape, {"where": "batch", "shape": (3,)}),
        ({"batch": np.array([0, 0, np.nan, 1])}, errors.MissingValues, {"where": "batch", "rows": [2]}),
        ({"control": np.array(["true"] * 4)}, errors.WrongType, {"name": "control"}),
        ({"control": np.ones(3, dtype=bool)}, errors.WrongType, {"name": "control"}),
        ({"control": np.zeros(4, dtype=bool)}, errors.Empty, {"what": "controls in any of the 2 batches"}),
        ({"targets": np.full((4, 2), 0.1)}, errors.NoVariation, {}),
    ],
)
def test_refuses(refuses, function, change, error, data):
    arguments = {
        "predictions": np.ones((4, 2)),
        "targets": np.arange(8.0).reshape(4, 2),
        "batch": np.array([0, 0, 1, 1]),
        "control": np.array([True, False, True, False]),
    } | change
    with refuses(error, **data):
        function(**arguments)


# ---- the split


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
    assert (len(old), old & new, set(batch[unseen])) == (28, set(), new)
    trained, unknown = set(perturbation[train]), set(perturbation[unseen])
    assert (len(trained), len(unknown), trained & unknown) == (35, 15, set())
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
    same = preservation_split(batch, several, control, rng=np.random.default_rng(0))
    for a, b in zip(preservation_split(*grid, rng=0), same, strict=True):
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
def test_splits_are_refused(refuses, change, error, data):
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
