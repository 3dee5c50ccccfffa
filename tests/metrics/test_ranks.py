"""Ranks of cosines are those of sorting all of them, to the last bit, whatever single precision makes of ties."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiclip.metrics import _cosines, _ranks
from semiclip.metrics._cosines import Cosines
from semiclip.metrics._hits import count_strips, find_tails, read_hits
from semiclip.metrics._ranks import read_cosines

KINDS = ["normal", "alike", "copies", "constant", "line", "integers", "circle", "nearly equal", "zeros"]
WAYS = ["few", "sampled", "misled", "double"]


def rows(kind, n=121, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20))
    if kind == "copies":  # a quarter of the rows are the same row
        x[: n // 4] = x[0]
    if kind == "zeros":
        x[: n // 4] = 0
    if kind == "circle":  # each cosine of the same angle differs by up to 1e-7, and by as little as rounding
        angles = np.arange(n) * 2 * np.pi / n + rng.choice([0, 1e-13, 1e-12, 1e-10, 1e-8, 1e-7], n)
        return np.column_stack([np.cos(angles), np.sin(angles)])
    return {
        "alike": x + 50,
        "constant": np.full((n, 20), 0.1),
        "line": np.sign(x[:, :1]) * np.full((n, 20), 0.3),
        "integers": rng.integers(-1, 2, (n, 3)).astype(float),
        "nearly equal": 1 + 1e-6 * x,  # all cosines lie within 1e-11
    }.get(kind, x)


def take(way, monkeypatch):
    """Take the ways of large maps for small ones, in several blocks and chunks."""
    monkeypatch.setattr(_cosines, "ROWS", 16)
    monkeypatch.setattr(_cosines, "COLUMNS", 24)
    monkeypatch.setattr(_cosines, "CHUNK", 7)
    if way != "few":
        monkeypatch.setattr(_ranks, "FEW", 0)
        monkeypatch.setattr(_ranks, "SAMPLE", 400)
    if way == "misled":
        monkeypatch.setattr(_ranks, "_draw_sample", lambda cosines, dtype: np.full(5_000, 0.875, dtype))
    if way == "double":
        monkeypatch.setattr(_ranks, "HELD", -1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_and_pairs_equal_sorting(kind, way, monkeypatch):
    cosines = Cosines.of(rows(kind))
    pairs = np.triu_indices(len(cosines.unit), k=1)
    one_by_one = cosines.at(*pairs)
    take(way, monkeypatch)
    n = cosines.size
    ranks = [0, 1, n // 20, n // 4, n // 2, 19 * n // 20, n - 2, n - 1]
    read = read_cosines(cosines, ranks, *pairs)
    assert read.statistics == np.sort(one_by_one)[ranks].tolist()
    # in double precision an order of summation shows in one of 10,000 cosines, by a unit of the last decimal
    assert np.abs(read.near - one_by_one).max() <= (read.error or 1.1e-12)
    assert way != "double" or (read.error == 0 and (read.near == one_by_one).mean() > 0.99)
    # pairs in any order
    order = np.random.default_rng(1).permutation(n)[:500]
    some = read_cosines(cosines, ranks, *(rows[order] for rows in pairs))
    np.testing.assert_array_equal(some.near, read.near[order])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [[(0.05, 0.95), (0.25, 0.75), (0.5, 0.5)], [(0.0, 1.0)], [(0.0, 0.0), (1.0, 1.0)]])
def test_tails_equal_counting(kind, way, levels, monkeypatch):
    cosines = Cosines.of(rows(kind))
    pairs = np.triu_indices(len(cosines.unit), k=1)
    one_by_one = cosines.at(*pairs)
    null = np.sort(one_by_one)
    right, left = (np.searchsorted(null, one_by_one, side) * 100 for side in ("right", "left"))
    take(way, monkeypatch)
    tails, hit = find_tails(cosines, levels, pairs)
    expected = [
        (right <= round(100 * low) * null.size) | (left >= round(100 * high) * null.size) for low, high in levels
    ]
    np.testing.assert_array_equal(hit, np.array(expected).T)
    # and what is written on the way, of all pairs in one pass, which single precision allows but among many ties
    kept, again = find_tails(cosines, levels, pairs, keep=True)
    np.testing.assert_array_equal(again, hit)
    assert (kept.cuts == tails.cuts).all()
    assert kept.hits is None or (kept.hits.look_up(*pairs) == hit).all()
    assert kept.hits is not None or way == "double" or kind not in ("normal", "alike")
    # what is looked up in codes is the same, strip by strip and in both directions
    for at_once in (1 << 28, 1_000):
        monkeypatch.setattr("semiclip.metrics._hits.HITS", at_once)
        looked_up = sum(strip.look_up(*pairs).astype(int) for strip in read_hits(cosines, tails))
        np.testing.assert_array_equal(looked_up, hit)
        turned = sum(strip.look_up(*pairs[::-1]).astype(int) for strip in read_hits(cosines, tails))
        np.testing.assert_array_equal(turned, hit)


@pytest.mark.parametrize(
    "levels",
    [
        [(0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75)],
        [(0.1, 0.6), (0.3, 0.7), (0.2, 0.95), (0.3, 0.3), (0.65, 0.9)],
        [(i / 50, 1 - i / 100) for i in range(20)],
        [(i / 400, i / 400) for i in range(300)],
        [(0.3, 0.7)],
    ],
    ids=["nested", "crossed", "byte", "two bytes", "one"],
)
@pytest.mark.parametrize("n", [121, 128])
@pytest.mark.parametrize("kind", ["normal", "integers", "copies"])
def test_codes_of_any_width_say_the_same_in_one_pass_or_two(n, levels, kind, monkeypatch):
    cosines = Cosines.of(rows(kind, n))
    pairs = np.triu_indices(n, k=1)
    take("sampled", monkeypatch)
    tails, hit = find_tails(cosines, levels, pairs, keep=True)
    one_by_one = cosines.at(*pairs)[:, None]
    np.testing.assert_array_equal(hit, (one_by_one < tails.cuts[:, 0]) | (one_by_one > tails.cuts[:, 1]))
    assert kind != "normal" or tails.hits is not None
    order = np.random.default_rng(0).permutation(len(hit))
    shuffled = [side[order] for side in pairs]
    for at_once in (1 << 28, 600):
        monkeypatch.setattr("semiclip.metrics._hits.HITS", at_once)
        for read in (tails, tails._replace(hits=None)):
            assert len(list(read_hits(cosines, read))) == count_strips(cosines, read)
            looked_up = sum(part.look_up(*shuffled).astype(int) for part in read_hits(cosines, read))
            np.testing.assert_array_equal(looked_up, hit[order])


def test_five_pairs_of_tails_within_one_another_take_four_bits():
    levels = [(0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75)]
    cosines = Cosines.of(rows("normal"))
    none = np.zeros(0, dtype=int)
    widths = [find_tails(cosines, levels[:n], (none, none), keep=True)[0].hits.codes.width for n in (1, 2, 3, 5)]
    assert widths == [1, 2, 2, 4]


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), d=st.integers(0, 4), data=st.data())
def test_ranks_of_rows_of_integers(seed, n, d, data):
    x = np.random.default_rng(seed).integers(-2, 3, (n, d))
    cosines = Cosines.of(x)
    expected = np.sort([cosines.at(np.array([i]), np.array([j]))[0] for i, j in combinations(range(n), 2)])
    ranks = sorted(data.draw(st.sets(st.integers(0, cosines.size - 1))))
    none = np.zeros(0, dtype=int)
    assert read_cosines(cosines, ranks, none, none).statistics == expected[ranks].tolist()


def test_one_pair_has_the_same_bits_in_any_company():
    cosines = Cosines.of(np.random.default_rng(0).normal(size=(300, 768)))
    first, second = np.random.default_rng(1).integers(300, size=(2, 1_000))
    together = cosines.at(first, second)
    np.testing.assert_array_equal(cosines.at(second, first), together)
    alone = [cosines.at(first[i : i + 1], second[i : i + 1])[0] for i in range(1_000)]
    np.testing.assert_array_equal(alone, together)
    unit = cosines.unit.astype(np.longdouble)
    np.testing.assert_allclose(together, (unit[first] * unit[second]).sum(axis=1).astype(float), rtol=0, atol=6e-13)


@pytest.mark.parametrize("chunk", [1, 7, 192, 5_000])
@pytest.mark.parametrize("kind", ["normal", "alike", "constant", "growing", "one"])
@pytest.mark.parametrize("d", [1, 5, 768, 3_000])
def test_single_precision_errs_less_than_is_said(d, kind, chunk, monkeypatch):
    monkeypatch.setattr(_cosines, "CHUNK", chunk)
    monkeypatch.setattr(_cosines, "COLUMNS", 20)
    x = np.random.default_rng(0).normal(size=(50, d))
    # sums of equal or of growing terms round in one direction
    x = {
        "alike": x + 50,
        "constant": np.full_like(x, 0.1),
        "growing": np.abs(x) + np.arange(d),
        "one": x[:1] + 0 * x,
    }.get(kind, x)
    cosines = Cosines.of(x)
    whole = np.full((50, 50), np.nan)
    for start, left, block in cosines.blocks(np.float32):
        whole[start : start + len(block), left : left + block.shape[1]] = block
    upper = np.triu_indices(50, k=1)
    assert np.abs(whole[upper] - cosines.at(*upper)).max() < cosines.error(np.float32)
    assert np.isnan(whole[np.tril_indices(50)]).all()
    assert cosines.error(np.float32) < 1e-3 + 1e-7 * chunk
    assert cosines.error(np.float64) == 0


def test_the_error_at_768_dimensions_is_a_hundred_thousandth():
    assert Cosines(np.zeros((2, 768))).error(np.float32) == pytest.approx(1.2e-5, rel=0.01)


def test_values_that_many_pairs_share_need_no_memory(monkeypatch):
    take("double", monkeypatch)
    bracket = _ranks._Bracket(1.0, 1.0)
    for _, _, block in Cosines.of(rows("constant")).blocks():
        bracket.count(block)
    assert sum(part.size for part in bracket.values) == 0
    assert bracket.select(3_000) == 1


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_bracket_of_one_value_counts_its_ties_once(value):
    # a third of all pairs or more have this cosine, and ranks beyond it are for a wider bracket to tell
    cosines = Cosines.of(np.repeat(np.array([[1, 0], [-1, 0], [0, 1]]), [40, 40, 20], axis=0))
    every = np.sort(cosines.at(*np.triu_indices(100, k=1)))
    bracket = _ranks._Bracket(value, value)
    for _, _, block in cosines.blocks():
        bracket.count(block)
    assert bracket.n_high == 0
    for rank in range(cosines.size):
        assert bracket.select(rank) == (value if every[rank] == value else None)


@pytest.mark.parametrize("seed", range(5))
def test_a_narrow_bracket_among_ties_misleads_no_rank(seed, monkeypatch):
    take("double", monkeypatch)
    monkeypatch.setattr(_ranks, "SAMPLE", 40)
    monkeypatch.setattr(_ranks, "DEVIATIONS", 1e-3)
    x = np.random.default_rng(seed).integers(-1, 2, (121, 2))
    cosines = Cosines.of(x)
    every = np.sort(cosines.at(*np.triu_indices(121, k=1)))
    ranks = list(range(0, cosines.size, 7))
    none = np.zeros(0, dtype=int)
    assert read_cosines(cosines, ranks, none, none).statistics == every[ranks].tolist()
