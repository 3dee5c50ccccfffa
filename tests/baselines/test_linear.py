import numpy as np
import pandas as pd
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as Reference
from sklearn.model_selection import GroupKFold

from semiclip import errors
from semiclip.baselines import Cca, Procrustes, Ridge
from semiclip.correction import correct
from semiclip.metrics import group_mean, relationship_recall


def fit(baseline, student, teacher, key=None):
    key = np.arange(len(student)) if key is None else key
    return baseline.fit(student, teacher, key, rng=np.random.default_rng(0))


# ---- ridge


def keyed(seed=0, n=120, n_keys=30, noise=1.0, n_student=4, n_teacher=3):
    """Rows of unequal keys whose student is a noisy linear map of the teacher, both away from zero."""
    rng = np.random.default_rng(seed)
    key = np.r_[np.arange(n_keys), rng.integers(n_keys // 3, size=n - n_keys)]
    teacher = rng.normal(size=(n_keys, n_teacher))[key] + 5
    return teacher @ rng.normal(size=(n_teacher, n_student)) + noise * rng.normal(size=(n, n_student)) - 3, teacher, key


@pytest.mark.parametrize("alpha", [1e-3, 7.0, 1e4])
@pytest.mark.parametrize("n_student", [4, 40])
def test_ridge_is_scikit_learns(alpha, n_student):
    student, teacher, key = keyed(n=60, n_student=n_student)
    ridge, expected = fit(Ridge(alphas=[alpha]), student, teacher, key), Reference(alpha=alpha).fit(student, teacher)
    np.testing.assert_allclose(ridge.fitted["weight"], expected.coef_.T, rtol=1e-6, atol=1e-9)
    new, _, _ = keyed(1, n_student=n_student)
    np.testing.assert_allclose(ridge.transform(new), expected.predict(new), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_teacher", [2, 4, 9])
def test_ridge_recovers_a_linear_map(n_teacher):
    rng = np.random.default_rng(0)
    student, new = rng.normal(size=(50, 4)) + 10, rng.normal(size=(20, 4))
    weight, offset = rng.normal(size=(4, n_teacher)), rng.normal(size=n_teacher)
    ridge = fit(Ridge(alphas=[1e-10]), student, student @ weight + offset)
    np.testing.assert_allclose(ridge.fitted["weight"], weight, atol=1e-9)
    np.testing.assert_allclose(ridge.transform(new), new @ weight + offset, atol=1e-5)


@pytest.mark.parametrize(("noise", "n_keys"), [(0.1, 30), (2.0, 30), (10.0, 30), (2.0, 3)])
def test_ridge_takes_the_penalty_of_the_least_error_on_held_out_keys(noise, n_keys):
    student, teacher, key = keyed(noise=noise, n_keys=n_keys)
    alphas = (1e-3, 1.0, 30.0, 1e3, 1e5)
    squared = np.zeros(5)
    for train, test in GroupKFold(min(5, n_keys)).split(student, groups=key):
        for i, alpha in enumerate(alphas):
            predicted = Reference(alpha=alpha).fit(student[train], teacher[train]).predict(student[test])
            squared[i] += ((predicted - teacher[test]) ** 2).sum()
    ridge, best = fit(Ridge(alphas=alphas), student, teacher, key), alphas[squared.argmin()]
    assert float(ridge.fitted["alpha"]) == best
    alone = fit(Ridge(alphas=[best]), student, teacher, key)
    np.testing.assert_allclose(ridge.transform(student), alone.transform(student), rtol=1e-6)


def test_replicates_of_a_key_do_not_vouch_for_one_another():
    """With rows held out in place of keys, a student that only tells the keys apart would seem to predict."""
    rng = np.random.default_rng(0)
    key = np.repeat(np.arange(40), 10)
    student, teacher = rng.normal(size=(40, 30))[key], rng.normal(size=(40, 5))[key]
    by_row, by_key = fit(Ridge(), student, teacher, rng.permutation(400)), fit(Ridge(), student, teacher, key)
    assert float(by_row.fitted["alpha"]) < 10 < 1e5 < float(by_key.fitted["alpha"])


def test_penalties_by_default_have_the_units_of_the_student():
    student, teacher, key = keyed(noise=3.0)
    unit, ridge = student.var(axis=0).mean() * len(student), fit(Ridge(), student, teacher, key)
    alpha = float(ridge.fitted["alpha"])
    assert np.log10(alpha / unit) == pytest.approx(round(np.log10(alpha / unit)), abs=1e-9)
    listed = fit(Ridge(alphas=unit * 10.0 ** np.arange(-6, 4)), student, teacher, key)
    assert float(listed.fitted["alpha"]) == pytest.approx(alpha, rel=1e-12)
    scaled = fit(Ridge(), 100 * student, teacher, key)
    assert float(scaled.fitted["alpha"]) == pytest.approx(1e4 * alpha, rel=1e-9)
    np.testing.assert_allclose(scaled.transform(100 * student), ridge.transform(student), rtol=1e-5)


def test_ridge_of_a_student_that_does_not_vary_predicts_the_mean():
    _, teacher, key = keyed()
    student = np.full((120, 4), 0.1)
    out = fit(Ridge(), student, teacher, key).transform(student)
    np.testing.assert_allclose(out, np.tile(teacher.mean(axis=0), (120, 1)), rtol=1e-6)


# ---- canonical correlations


def shared(n_student=4, n_teacher=3, n=200):
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, 3))
    student = factors @ rng.normal(size=(3, n_student)) + rng.normal(size=(n, n_student)) + 4
    return student, factors[:, :n_teacher] * [2, 1, 0.5][:n_teacher] + 0.5 * rng.normal(size=(n, n_teacher)) - 7


@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (6, 3)])
def test_cca_is_scikit_learns(n_components, shape):
    student, teacher = shared(*shape)
    cca = fit(Cca(n_components=n_components, regularization=0), student, teacher)
    reference = CCA(n_components, scale=False, tol=1e-14, max_iter=10_000).fit(student, teacher)
    x, y = reference.transform(student, teacher)
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(n_components)]
    np.testing.assert_allclose(cca.fitted["correlations"], expected, atol=1e-6)
    variates, out = x / x.std(axis=0) * expected, cca.transform(student)
    np.testing.assert_allclose(out * np.sign((out * variates).sum(axis=0)), variates, atol=1e-5)


def test_variates_are_uncorrelated_and_as_large_as_their_correlation_in_any_coordinates():
    (student, teacher), rng = shared(), np.random.default_rng(3)
    cca = fit(Cca(regularization=0), student, teacher)
    out, correlations = cca.transform(student).astype(float), cca.fitted["correlations"]
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(out.T, ddof=0), np.diag(correlations**2), atol=1e-6)
    assert (np.diff(correlations) <= 0).all()
    mapped = student @ rng.normal(size=(4, 4)) + 9
    other = fit(Cca(regularization=0), mapped, teacher @ rng.normal(size=(3, 3)))
    np.testing.assert_allclose(other.fitted["correlations"], correlations, atol=1e-9)
    again = other.transform(mapped)
    np.testing.assert_allclose(again * np.sign((again * out).sum(axis=0)), out, atol=1e-5)
    single = fit(Cca(regularization=0), student[:, :1], teacher[:, :1]).fitted["correlations"]
    np.testing.assert_allclose(single, abs(np.corrcoef(student[:, 0], teacher[:, 0])[0, 1]), atol=1e-12)


def test_regularization_shrinks_and_knows_no_units():
    student, teacher = shared()
    none, some, much = (fit(Cca(regularization=r), student, teacher).fitted["correlations"] for r in (0, 0.1, 10))
    assert ((none > some) & (some > much)).all()
    scaled = fit(Cca(regularization=0.1), 1000 * student, 0.01 * teacher)
    np.testing.assert_allclose(scaled.fitted["correlations"], some, atol=1e-12)


def test_with_few_keys_any_teacher_gives_the_same_unless_regularized():
    rng, key = np.random.default_rng(0), np.arange(90) % 5
    student = rng.normal(size=(90, 6)) + rng.normal(size=(5, 6))[key]
    teachers = [rng.normal(size=(5, 8))[key] for _ in range(2)]
    free, tied = (
        [fit(Cca(regularization=r), student, teacher, key).fitted["correlations"] for teacher in teachers]
        for r in (0, 1)
    )
    np.testing.assert_allclose(*free, atol=1e-9)
    assert np.abs(tied[0] - tied[1]).max() > 0.01
    assert free[0].shape == (4,)


@pytest.mark.parametrize(("width", "expected"), [(40, 30), (30, 30), (8, 8)])
def test_thirty_components_where_there_are_as_many(width, expected):
    student, teacher = np.random.default_rng(0).normal(size=(2, 100, width))
    assert fit(Cca(), student, teacher).transform(student).shape == (100, expected)
    assert fit(Cca(n_components=width), student, teacher).transform(student).shape == (100, width)


# ---- Procrustes


def turned(n_student, n_teacher, seed=0, n=80):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(n, n_student)) * np.linspace(3, 0.5, n_student) + 2
    return student, student[:, :2] @ rng.normal(size=(2, n_teacher)) + rng.normal(size=(n, n_teacher)) - 5


@pytest.mark.parametrize(("factor", "n_teacher"), [(1.0, 4), (2.5, 4), (1.0, 9)])
def test_procrustes_recovers_a_rotation(factor, n_teacher):
    student, _ = turned(4, 4)
    rotation = ortho_group.rvs(n_teacher, random_state=0)[:4]
    baseline = fit(Procrustes(), student, factor * student @ rotation + 7)
    np.testing.assert_allclose(baseline.fitted["weight"], factor * rotation, atol=1e-9)
    new = turned(4, 4, seed=1)[0]
    np.testing.assert_allclose(baseline.transform(new), factor * new @ rotation + 7, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("widths", [(4, 3), (3, 5), (4, 4)])
def test_procrustes_is_scipys_of_principal_components(widths):
    student, teacher = turned(*widths)
    sides = [PCA(min(widths)).fit(x) for x in (student, teacher)]
    left, right = sides[0].transform(student), sides[1].transform(teacher)
    rotation, scale = orthogonal_procrustes(left, right)
    expected = sides[1].inverse_transform(scale / (left**2).sum() * left @ rotation)
    np.testing.assert_allclose(fit(Procrustes(), student, teacher).transform(student), expected, rtol=1e-5, atol=1e-5)


# ---- refusals


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *[(Ridge, "alphas", x) for x in [(), (0.0, 1.0), (-1.0,), (np.nan,), (np.inf,), 1.0, ((1.0, 2.0),)]],
        *[(Cca, "n_components", x) for x in (0, -1, 2.5, "3")],
        *[(Cca, "regularization", x) for x in (-0.1, np.nan, np.inf)],
    ],
)
def test_refuses_options(kind, name, value, refuses):
    with refuses(errors.BadValue, name=name, value=value):
        kind(**{name: value})


def test_refuses_data(refuses):
    student, teacher = shared()
    key, still = np.arange(200) % 3, np.full((200, 4), 0.1)
    for baseline, data, error, about in [
        (Cca(n_components=4), (student, teacher), errors.TooMany, {"number": 4, "limit": 3}),
        (Cca(n_components=3), (student, teacher[key], key), errors.TooMany, {"number": 3, "limit": 2}),
        (Cca(), (still, teacher), errors.NoVariation, {}),
        (Procrustes(), (still, teacher), errors.NoVariation, {}),
    ]:
        with refuses(error, **about):
            fit(baseline, *data)


# ---- TVN that whitens by the controls of all batches takes out invertible linear maps

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
    table = relationship_recall(means, names, annotated, thresholds=[(0.05, 0.95), (0.2, 0.8)])
    return unit @ unit.T, table["n_recalled"].to_numpy()


def learn(baseline, n_teacher):
    rng, key = np.random.default_rng(1), np.arange(300) % 100
    teacher = rng.normal(size=(100, n_teacher))[key]
    student = teacher @ rng.normal(size=(n_teacher, N_STUDENT)) + rng.normal(size=(300, N_STUDENT))
    return baseline.fit(student, teacher, key, rng=rng)


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize("baseline", [Ridge(alphas=[1e-8]), Ridge(alphas=[1e3]), Procrustes(), Cca()])
@pytest.mark.parametrize("n_teacher", [6, 9])
def test_linear_baselines_of_full_rank_are_the_student_after_tvn(baseline, n_teacher, profile):
    x, *rest = screen()
    cosines, recalled = recall(x, *rest, profile)
    mapped, mapped_recalled = recall(learn(baseline, n_teacher).transform(x), *rest, profile)
    assert recalled.max() > 5
    np.testing.assert_allclose(mapped, cosines, atol=1e-4)
    np.testing.assert_array_equal(mapped_recalled, recalled)


@pytest.mark.parametrize(
    ("baseline", "n_teacher", "profile", "least"),
    [
        *[(baseline, 3, "clean", 0.1) for baseline in (Ridge(), Procrustes(), Cca())],  # dimensions are dropped
        (Procrustes(), 9, "batch", 0.01),  # each batch is whitened its own way
    ],
)
def test_others_are_not(baseline, n_teacher, profile, least):
    x, *rest = screen()
    cosines, _ = recall(x, *rest, profile)
    mapped, _ = recall(learn(baseline, n_teacher).transform(x), *rest, profile)
    assert np.abs(mapped - cosines).max() > least
