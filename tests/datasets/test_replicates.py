from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from semiclip.datasets._published import mark_reproducible


def _plates(n_constructs: int, n_plates: int = 3):
    constructs = np.repeat([f"c{i:03d}" for i in range(n_constructs)], n_plates)
    return constructs, np.tile(list("pqr")[:n_plates], n_constructs)


def _naive(values, constructs, plates, rng, n_draws=2000, level=0.95):
    """The definition, one set at a time."""

    def statistic(wells):
        return np.mean([np.corrcoef(values[a], values[b])[0, 1] for a, b in combinations(wells, 2)])

    names = np.unique(plates)
    null = {}
    for n in range(2, len(names) + 1):
        drawn = []
        for _ in range(n_draws):
            on = rng.choice(names, n, replace=False)
            wells = [rng.choice(np.flatnonzero(plates == plate)) for plate in on]
            if len(set(constructs[wells])) == n:
                drawn.append(statistic(wells))
        null[n] = np.quantile(drawn, level)
    mask = np.zeros(len(values), dtype=bool)
    for construct in np.unique(constructs):
        wells = np.flatnonzero(constructs == construct)
        mask[wells] = len(wells) > 1 and statistic(wells) > null[len(wells)]
    return mask


def test_parity_with_the_definition():
    rng = np.random.default_rng(0)
    constructs, plates = _plates(40)
    signal = rng.normal(size=(40, 60)) * np.linspace(0, 1.5, 40)[:, None]
    values = np.repeat(signal, 3, axis=0) + rng.normal(size=(120, 60))
    keep = np.ones(120, dtype=bool)
    keep[[1, 31, 61, 91, 62]] = False  # constructs with two wells, and one with a single well
    values, constructs, plates = values[keep], constructs[keep], plates[keep]
    expected = _naive(values, constructs, plates, rng)
    marked = mark_reproducible(values, constructs, plates, rng=1)
    assert 0.4 < expected.mean() < 0.95
    # only constructs on the edge may differ, since the two nulls are drawn apart
    assert (marked != expected).mean() < 0.03
    assert not marked[constructs == "c020"].any()


def test_five_percent_pass_by_chance():
    constructs, plates = _plates(1000)
    values = np.random.default_rng(0).normal(size=(3000, 50))
    share = mark_reproducible(values, constructs, plates, rng=0).mean()
    assert abs(share - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_planted_constructs_are_found_whatever_the_order():
    rng = np.random.default_rng(0)
    constructs, plates = _plates(100)
    values = rng.normal(size=(300, 200))
    planted = np.isin(constructs, [f"c{i:03d}" for i in range(10)])
    values[planted] += np.repeat(rng.normal(size=(10, 200)), 3, axis=0) * 2
    marked = mark_reproducible(values, constructs, plates, rng=0, level=0.999)
    assert (marked == planted).mean() > 0.98
    assert marked[planted].all()
    for seed in (0, np.random.default_rng(0)):
        assert (marked == mark_reproducible(values, constructs, plates, rng=seed, level=0.999)).all()
    order = rng.permutation(300)
    again = mark_reproducible(values[order], constructs[order], plates[order], rng=0, level=0.999)
    assert (again == marked[order]).mean() > 0.98


@pytest.mark.parametrize("offset", [0, 5])
def test_a_single_plate_has_no_replicates(offset):
    constructs, plates = _plates(4, n_plates=1)
    values = np.random.default_rng(0).normal(size=(4, 20)) + offset
    assert not mark_reproducible(values, constructs, plates, rng=0).any()
