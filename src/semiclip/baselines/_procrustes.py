from __future__ import annotations

import numpy as np

from semiclip.baselines._protocol import Arrays, Linear, centre_products, mean_row, sum_products
from semiclip.errors import NoVariation


class Procrustes(Linear):
    """The student turned into the teacher's space: the best rotation (or reflection), one factor and a shift.

    It turns principal components, as many as the narrower side has dimensions. If it wins, both spaces have the same
    shape, and distillation only had to find how they lie.

    Notes
    -----
    TVN that whitens by the controls of all batches takes out every invertible linear map. Recall after it is therefore
    the recall of :class:`Unimodal`, unless the teacher has fewer dimensions and the student's last components are lost.

    References
    ----------
    Schönemann, Psychometrika 1966, DOI 10.1007/BF02289451.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> student, key = rng.normal(size=(50, 2)), np.arange(50)
    >>> teacher = 3 * student @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
    >>> out = Procrustes().fit(student, teacher, key, rng=rng).transform(student)
    >>> bool(np.allclose(out, teacher, atol=1e-5))
    True
    """

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        shift, width = (mean_row(student), mean_row(teacher)), student.shape[1]
        products = centre_products(sum_products(student, teacher, shift))
        fewer = min(width, teacher.shape[1])
        left, size = _components(products[:width, :width], fewer)
        right, _ = _components(products[width:, width:], fewer)
        if size == 0:
            raise NoVariation(f"the {len(student)} student rows")
        # what scipy.linalg.orthogonal_procrustes does with the rows, from their products
        u, values, vh = np.linalg.svd(left.T @ products[:width, width:] @ right)
        weight = values.sum() / size * left @ u @ vh @ right.T
        return {"shift": shift[0], "weight": weight, "offset": shift[1]}


def _components(products: np.ndarray, n_components: int) -> tuple[np.ndarray, float]:
    """Return the leading directions, shape (d, n_components), and the sum of squares along them."""
    values, vectors = np.linalg.eigh(products)
    return vectors[:, -n_components:], float(values[-n_components:].clip(min=0).sum())
