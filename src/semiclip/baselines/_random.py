from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from semiclip._numerics import row_blocks
from semiclip.baselines._protocol import BLOCK, Arrays, ClosedForm

if TYPE_CHECKING:
    from torch import Tensor


class Random(ClosedForm):
    """Independent standard normal values, as many as the teacher has dimensions, that know nothing of the row.

    It shows what a measure gives to chance. If it wins, either the measure or its data are at fault.

    Notes
    -----
    The values come from a seed and a hash of the row in float32, so that a row always has the same vector, whatever
    other rows are embedded with it. Rows that are equal to the last bit share a vector; rows that differ in one bit do
    not.

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

    width_of: ClassVar[str] = "student_seeds"

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        return {
            "student_seeds": rng.integers(2**63, size=(student.shape[1],), dtype=np.int64),
            "teacher_seeds": rng.integers(2**63, size=(teacher.shape[1],), dtype=np.int64),
        }

    def _apply(self, student: np.ndarray) -> np.ndarray:
        import torch
        from scipy.special import ndtri

        from semiclip._counter_rng import state

        seeds, hash_seeds = (torch.from_numpy(self.fitted[name]) for name in ("teacher_seeds", "student_seeds"))
        out = np.empty((len(student), len(seeds)), dtype=np.float32)
        for rows in row_blocks(len(student), BLOCK):
            bits = state(_hash(student[rows], hash_seeds)[:, None] ^ seeds).numpy().view(np.uint64)
            # the middles of 2^53 equal parts of (0, 1), so that neither end is ever drawn
            out[rows] = ndtri(((bits >> 11) + 0.5) * 2.0**-53)
        return out


def _hash(x: np.ndarray, seeds: Tensor) -> Tensor:
    """Return 64 bits for each row; seeds of the dimensions (d,) make their order matter."""
    import torch

    from semiclip._counter_rng import state

    values = np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)  # which makes -0.0 the same as 0.0
    bits = torch.from_numpy(values.view(np.uint32).astype(np.int64))
    return state(state(bits ^ seeds).sum(dim=1))
