from __future__ import annotations

import numpy as np

from semiclip.baselines._protocol import Arrays, ClosedForm


class Unimodal(ClosedForm):
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

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        return {"shift": np.zeros(student.shape[1])}

    def _apply(self, student: np.ndarray) -> np.ndarray:
        return student.astype(np.float32)
