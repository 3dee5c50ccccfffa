from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip.baselines._protocol import blocks, check_pairs, learned

if TYPE_CHECKING:
    from typing import Self

# the constants of SplitMix64
GAMMA, FIRST, SECOND = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)


class Random:
    """Independent standard normal values, as many as the teacher has dimensions, that know nothing of the row.

    It shows what a measure gives to chance. If it wins, either the measure or what it is measured on is at fault.

    Notes
    -----
    The values are drawn from a seed and a hash of the row in float32, so that a row has the same vector wherever and
    with whatever other rows it is embedded. Rows that are equal to the last bit share a vector; rows that differ in one
    bit do not.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317; the generator: Steele, Lea and Flood, OOPSLA
    2014, DOI 10.1145/2660193.2660195.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> student, teacher, key = rng.normal(size=(6, 3)), rng.normal(size=(6, 2)), np.arange(6)
    >>> random = Random().fit(student, teacher, key, rng=rng)
    >>> bool((random.transform(student)[4:] == random.transform(student[4:])).all())
    True
    """

    def __init__(self) -> None:
        self.fitted: dict[str, np.ndarray] = {}

    def fit(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, *, rng: np.random.Generator) -> Self:
        """Draw a seed for each dimension of either side; returns the baseline itself."""
        check_pairs(student, teacher, key)
        self.fitted = {
            "student_seeds": rng.integers(2**63, size=(student.shape[1],), dtype=np.int64),
            "teacher_seeds": rng.integers(2**63, size=(teacher.shape[1],), dtype=np.int64),
        }
        return self

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Return a random vector for each row, float32 of shape (m, D)."""
        from scipy.special import ndtri

        fitted = learned(self, student, "student_seeds")
        seeds, hash_seeds = (fitted[name].view(np.uint64) for name in ("teacher_seeds", "student_seeds"))
        out = np.empty((len(student), seeds.size), dtype=np.float32)
        for rows in blocks(len(student)):
            bits = _mix(_hash(student[rows], hash_seeds)[:, None] ^ seeds)
            # the middles of 2^53 equal parts of (0, 1), so that neither end is ever drawn
            out[rows] = ndtri(((bits >> 11) + 0.5) * 2.0**-53)
        return out


def _hash(x: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return 64 bits for each row; seeds of the dimensions (d,) make their order matter."""
    values = np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)  # which makes -0.0 the same as 0.0
    return _mix(_mix(values.view(np.uint32) ^ seeds).sum(axis=1))


def _mix(bits: np.ndarray) -> np.ndarray:
    """Scramble 64 bits as SplitMix64 does."""
    bits = bits + GAMMA
    bits = (bits ^ (bits >> 30)) * FIRST
    bits = (bits ^ (bits >> 27)) * SECOND
    return bits ^ (bits >> 31)
