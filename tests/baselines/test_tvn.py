"""TVN takes out invertible linear maps, so that a linear baseline only differs by the directions that it drops.

That is, TVN that whitens by the controls of all batches.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from semiclip.baselines import Cca, Procrustes, Ridge
from semiclip.correction import correct
from semiclip.metrics import group_mean, relationship_recall

N_GENES, N_BATCHES, N_STUDENT = 40, 3, 6


def screen():
    """Controls and perturbed rows of each batch, with offsets of the batches, and annotated pairs of alike genes."""
    rng = np.random.default_rng(0)
    gene = np.tile(np.r_[np.arange(N_GENES), np.full(30, -1)], N_BATCHES)
    batch = np.repeat(np.arange(N_BATCHES), N_GENES + 30)
    effects = np.vstack([np.repeat(rng.normal(size=(N_GENES // 2, N_STUDENT)), 2, axis=0), np.zeros((1, N_STUDENT))])
    x = effects[gene] + rng.normal(size=(len(gene), N_STUDENT)) @ rng.normal(size=(N_STUDENT, N_STUDENT))
    names = [f"G{i}" for i in range(N_GENES)]
    annotated = pd.DataFrame({"gene_a": names[0::2], "gene_b": names[1::2]})
    return (x + rng.normal(size=(N_BATCHES, N_STUDENT))[batch]).astype(np.float32), gene, batch, names, annotated


def recall(x, gene, batch, names, annotated, profile="clean"):
    x = correct(x.astype(np.float64), batch, gene < 0, method="tvn", profile=profile)
    means = group_mean(x[gene >= 0], gene[gene >= 0], N_GENES)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    table = relationship_recall(means, names, annotated, thresholds=[(0.05, 0.95), (0.2, 0.8)], n_permutations=0)
    return unit @ unit.T, table["n_recalled"].to_numpy()


def learn(baseline, n_teacher):
    rng = np.random.default_rng(1)
    key = np.arange(300) % 100
    teacher = rng.normal(size=(100, n_teacher))[key]
    student = teacher @ rng.normal(size=(n_teacher, N_STUDENT)) + rng.normal(size=(300, N_STUDENT))
    return baseline.fit(student, teacher, key, rng=rng)


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize(
    "baseline",
    [Ridge(alphas=[1e-8]), Ridge(alphas=[1e3]), Procrustes(), Cca()],
    ids=["ols", "ridge", "procrustes", "cca"],
)
@pytest.mark.parametrize("n_teacher", [6, 9])
def test_linear_baselines_of_full_rank_are_the_student(baseline, n_teacher, profile):
    x, *rest = screen()
    cosines, recalled = recall(x, *rest, profile)
    out = learn(baseline, n_teacher).transform(x)
    mapped, mapped_recalled = recall(out, *rest, profile)
    assert recalled.max() > 5
    np.testing.assert_allclose(mapped, cosines, atol=1e-4)
    np.testing.assert_array_equal(mapped_recalled, recalled)


@pytest.mark.parametrize("baseline", [Ridge(), Procrustes(), Cca()], ids=["ridge", "procrustes", "cca"])
def test_they_differ_where_dimensions_are_dropped(baseline):
    x, *rest = screen()
    cosines, _ = recall(x, *rest)
    mapped, _ = recall(learn(baseline, 3).transform(x), *rest)
    assert np.abs(mapped - cosines).max() > 0.1


def test_they_differ_where_each_batch_is_whitened_its_own_way():
    x, *rest = screen()
    cosines, _ = recall(x, *rest, "batch")
    mapped, _ = recall(learn(Procrustes(), 9).transform(x), *rest, "batch")
    assert np.abs(mapped - cosines).max() > 0.01
