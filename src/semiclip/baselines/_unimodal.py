from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip.baselines._protocol import Fitted, check_pairs

if TYPE_CHECKING:
    from typing import Self


class Unimodal(Fitted):
    """The student as it is, which learns nothing from the teacher.

    If it wins, distillation has taken away more than it gave.

    References
    ----------
    Bendidi et al., ICML 2025, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> student, teacher, key = rng.normal(size=(6, 3)), rng.normal(size=(6, 2)), np.arange(6)
    >>> out = Unimodal().fit(student, teacher, key, rng=rng).transform(student)
    >>> bool((out == student.astype(np.float32)).all())
    True
    """

    def fit(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, *, rng: np.random.Generator) -> Self:
        """Remember the width of ``student``; returns the baseline itself."""
        check_pairs(student, teacher, key)
        self.fitted = {"shift": np.zeros(student.shape[1])}
        return self

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Return a copy of the rows, float32 of shape (m, d)."""
        self.read_fitted(student)
        return student.astype(np.float32)
