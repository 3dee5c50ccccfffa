"""What genes contribute to a number that an embedding gives, and what they would contribute by chance."""

from __future__ import annotations

import numpy as np


def count_exchanged(
    changes: np.ndarray, weights: np.ndarray, n_permutations: int, rng: int | np.random.Generator | None
) -> np.ndarray:
    """Return p-values of genes' changes times weights, against those whose weights are exchanged at random.

    Parameters
    ----------
    changes, weights
        Change of each gene, and what one unit of change contributes, by part (such as a batch): shape (n_parts,
        n_genes). Measured are the sizes of their products, summed over parts. A permutation is the same for all parts.
    n_permutations, rng
        Number of exchanges, and their seed or generator.

    Returns
    -------
    (1 + #{exchanged products of any gene at least as large}) / (1 + all of these), shape (n_genes,). A gene without a
    change or without a weight in any part is not tested: it has NaN, and takes no part in the exchanges. Genes that
    nobody expresses would else make all others look rare.
    """
    tested = (changes != 0).any(axis=0) & (weights != 0).any(axis=0)
    p_value = np.full(len(tested), np.nan)
    changes, weights = changes[:, tested], weights[:, tested]
    generator, n_tested = np.random.default_rng(rng), int(tested.sum())
    # rounding must not make an exchange that changes nothing smaller than what was measured
    sizes = np.abs(np.einsum("bg,bg->g", changes, weights)) * (1 - 1e-9)
    order = np.argsort(sizes)
    places = np.zeros(n_tested + 1, dtype=np.int64)  # how many measured sizes each exchanged one reaches
    for _ in range(n_permutations):
        exchanged = np.abs(np.einsum("bg,bg->g", changes, weights[:, generator.permutation(n_tested)]))
        places += np.bincount(np.searchsorted(sizes[order], exchanged, side="right"), minlength=n_tested + 1)
    n_larger = np.empty(n_tested, dtype=np.int64)
    n_larger[order] = places[::-1].cumsum()[::-1][1:]
    p_value[tested] = (1 + n_larger) / (1 + n_permutations * n_tested)
    return p_value
