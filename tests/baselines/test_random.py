import numpy as np
from scipy.special import ndtri
from scipy.stats import kstest

from semiclip.baselines import Random

MASK = 2**64 - 1


def fitted(seed=0, n_student=4, n_teacher=8):
    rng = np.random.default_rng(99)
    student, teacher = rng.normal(size=(10, n_student)), rng.normal(size=(10, n_teacher))
    return Random().fit(student, teacher, np.arange(10), rng=np.random.default_rng(seed))


def rows(n, d=4, seed=1):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def mix(bits):
    bits = (bits + 0x9E3779B97F4A7C15) & MASK
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return bits ^ (bits >> 31)


def test_equals_the_values_one_by_one():
    """With SplitMix64, whose first outputs for the seed 1234567 are those of the reference implementation."""
    states = [(1234567 + i * 0x9E3779B97F4A7C15) & MASK for i in range(3)]
    assert [mix(state) for state in states] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    baseline, student = fitted(), rows(3)
    student_seeds, teacher_seeds = (baseline.fitted[name].tolist() for name in ("student_seeds", "teacher_seeds"))
    expected = []
    for row in student:
        bits = np.frombuffer(row.tobytes(), dtype=np.uint32).tolist()
        code = mix(sum(mix(bit ^ seed) for bit, seed in zip(bits, student_seeds, strict=True)) & MASK)
        expected.append([ndtri(((mix(code ^ seed) >> 11) + 0.5) / 2**53) for seed in teacher_seeds])
    np.testing.assert_allclose(baseline.transform(student), expected, rtol=1e-6)


def test_standard_normal_and_independent():
    out = fitted(n_teacher=16).transform(rows(20_000)).astype(float)
    n = len(out)
    assert kstest(out.ravel(), "norm").pvalue > 0.01
    assert np.abs(out.mean(axis=0)).max() < 5 / np.sqrt(n)
    assert np.abs(out.var(axis=0) - 1).max() < 5 * np.sqrt(2 / n)
    correlations = np.corrcoef(out.T) - np.eye(16)
    assert np.abs(correlations).max() < 5 / np.sqrt(n)
    lagged = (out[1:] * out[:-1]).mean(axis=0)
    assert np.abs(lagged).max() < 5 / np.sqrt(n)


def test_knows_nothing_of_the_row():
    """Rows that differ by the last bit of one value are as far apart as any others, as are seeds."""
    student = rows(5000)
    near = student.copy()
    near[:, 2] = np.nextafter(near[:, 2], np.float32(9))
    out, other = fitted().transform(student), fitted().transform(near)
    for apart in (other, fitted(1).transform(student)):
        assert abs((out * apart).mean()) < 5 / np.sqrt(out.size)
    np.testing.assert_array_equal(fitted().transform(student), out)
    assert np.abs(np.corrcoef(student.T, out.T)[:4, 4:]).max() < 5 / np.sqrt(5000)
    assert np.unique(out, axis=0).shape == out.shape


def test_depends_on_the_content_of_the_row_alone():
    baseline, student = fitted(), rows(50)
    out = baseline.transform(student)
    for some in (np.random.default_rng(2).permutation(50), [31, 32], [3, 3]):
        np.testing.assert_array_equal(baseline.transform(student[some]), out[some])
    np.testing.assert_array_equal(baseline.transform(student.astype(np.float64)), out)


def test_the_order_of_dimensions_matters_and_the_sign_of_zero_does_not():
    baseline, student = fitted(), rows(5)
    assert np.abs(baseline.transform(student[:, ::-1]) - baseline.transform(student)).min(axis=1).max() > 1e-3
    zeros = np.zeros((1, 4), dtype=np.float32)
    np.testing.assert_array_equal(baseline.transform(-zeros), baseline.transform(zeros))
