import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.metrics import retrieval


def naive(query, candidates, target, ks):
    """One query at a time; ties by going through every order of the tied candidates' places."""
    ranks, hits = [], {k: [] for k in ks}
    for q, right in zip(query, target, strict=True):
        cosine = [round(float(q @ c / (np.linalg.norm(q) * np.linalg.norm(c))), 9) for c in candidates]
        better = sum(value > cosine[right] for value in cosine)
        tied = sum(value == cosine[right] for value in cosine)
        places = range(better, better + tied)
        ranks.append(np.mean(places))
        for k in ks:
            hits[k].append(np.mean([place < k for place in places]))
    result = {"mean_rank_percentile": np.mean(ranks) / (len(candidates) - 1)}
    return result | {f"recall_at_{k}": np.mean(hits[k]) for k in ks}


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_equals_the_naive_loop_with_ties(kind, dtype, tolerance):
    rng = np.random.default_rng(0)
    candidates = rng.integers(-1, 2, size=(21, 3)) + 0.5
    query = rng.integers(-1, 2, size=(50, 3)) + 0.5
    target = rng.integers(0, 21, size=50)
    scores = retrieval(kind(query.astype(dtype)), kind(candidates.astype(dtype)), kind(target), ks=(1, 3, 30))
    assert scores == pytest.approx(naive(query, candidates, target, (1, 3, 30)), abs=tolerance)
    assert all(type(value) is float for value in scores.values())


def test_best_and_worst():
    x = np.random.default_rng(0).normal(size=(30, 8))
    assert list(retrieval(x, x, np.arange(30)).items()) == [
        ("mean_rank_percentile", 0.0),
        *((f"recall_at_{k}", 1.0) for k in (1, 5, 10)),
    ]
    worst = retrieval(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.5, 1.0], [-1.0, 0.0]]), np.array([2]), ks=(1,))
    assert worst == {"mean_rank_percentile": 1.0, "recall_at_1": 0.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_embedding_is_exactly_at_chance(dtype, value):
    x = np.full((40, 50), value, dtype=dtype)
    assert retrieval(x, x, np.arange(40), ks=(1, 10)) == pytest.approx(
        {"mean_rank_percentile": 0.5, "recall_at_1": 1 / 40, "recall_at_10": 10 / 40}
    )


def test_noise_is_near_chance_and_only_directions_matter():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(900, 20)), rng.normal(size=(100, 20)), rng.integers(0, 100, 900)
    scores = retrieval(*data)
    assert scores["mean_rank_percentile"] == pytest.approx(0.5, abs=3 / np.sqrt(12 * 900))
    assert scores["recall_at_10"] == pytest.approx(0.1, abs=3 * np.sqrt(0.09 / 900))
    query, candidates, target = data
    assert retrieval(3 * query, candidates * rng.uniform(0.1, 9, size=(100, 1)), target) == scores
    opposite = retrieval(-query, candidates, target)
    assert opposite["mean_rank_percentile"] == pytest.approx(1 - scores["mean_rank_percentile"])


def test_blocks_change_nothing():
    rng = np.random.default_rng(0)
    query, candidates, target = rng.normal(size=(3000, 4)), rng.normal(size=(2000, 4)), rng.integers(0, 2000, 3000)
    parts = [retrieval(query[rows], candidates, target[rows]) for rows in np.split(np.arange(3000), 6)]
    expected = {name: np.mean([part[name] for part in parts]) for name in parts[0]}
    assert retrieval(query, candidates, target) == pytest.approx(expected, rel=1e-12)  # 2,097 queries at a time


def test_half_precision_is_computed_in_single():
    x = torch.tensor(np.random.default_rng(0).normal(size=(30, 8)), requires_grad=True).to(torch.bfloat16)
    assert retrieval(x, x, torch.arange(30)) == retrieval(x.float(), x.float(), torch.arange(30))
    assert retrieval(x, x.double(), np.arange(30), ks=(1,))["recall_at_1"] == 1


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_half_precision_whose_sum_is_larger_than_its_largest_number(kind, refuses):
    x = np.abs(np.random.default_rng(0).normal(300, 50, size=(100, 8))).astype(np.float16)
    assert x.astype(float).sum() > np.finfo(np.float16).max
    scores = retrieval(kind(x), kind(x), np.arange(100))
    assert scores == retrieval(kind(x.astype(np.float32)), kind(x.astype(np.float32)), np.arange(100))
    x[3, 2] = np.inf
    with refuses(errors.NotFinite, where="query", rows=[3]):
        retrieval(kind(x), kind(x), np.arange(100))


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"query": np.ones((3, 4))}, errors.Mismatch, {"got": 2, "expected": 4}),
        ({"query": np.ones(2)}, errors.WrongShape, {"where": "query", "shape": (2,)}),
        ({"query": np.ones((0, 2)), "target": np.zeros(0, int)}, errors.TooFew, {"number": 0, "needed": 1}),
        ({"candidates": np.ones((1, 2))}, errors.TooFew, {"number": 1, "needed": 2}),
        ({"target": np.array([0.0, 1.0, 2.0])}, errors.WrongDtype, {"where": "target"}),
        ({"target": np.array([0, 1])}, errors.WrongShape, {"where": "target", "shape": (2,)}),
        ({"target": np.array([0, 1, 5])}, errors.BadValue, {"name": "target", "value": (0, 5)}),
        ({"target": np.array([0, -1, 4])}, errors.BadValue, {"name": "target", "value": (-1, 4)}),
        ({"ks": 5}, errors.WrongType, {"name": "ks", "got": int}),
        ({"ks": "15"}, errors.WrongType, {"name": "ks", "got": str}),
        ({"ks": (1, 0)}, errors.BadValue, {"name": "ks", "value": (1, 0)}),
        ({"query": np.full((3, 2), np.nan)}, errors.NotFinite, {"where": "query", "rows": [0, 1, 2]}),
        ({"candidates": np.full((5, 2), np.inf)}, errors.NotFinite, {"where": "candidates"}),
    ],
)
def test_refuses(refuses, change, error, data):
    arguments = {"query": np.ones((3, 2)), "candidates": np.ones((5, 2)), "target": np.array([0, 1, 2])} | change
    with refuses(error, **data):
        retrieval(**arguments)
