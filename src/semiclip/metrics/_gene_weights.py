"""What genes contribute to a number that an embedding gives, and what they would contribute by chance."""

from __future__ import annotations

import numpy as np


def count_exchanged(
    changes: np.ndarray,
    weights: np.ndarray,
    contributions: np.ndarray,
    n_permutations: int,
    rng: int | np.random.Generator | None,
) -> np.ndarray:
    """Return p-values of contributions, against those of genes whose weights are exchanged at random.

    Parameters
    ----------
    changes, weights
        Change of each gene, and what one unit of change contributes, by part (such as a batch): shape (n_parts,
        n_genes). Their products, summed over parts, are contributions. A permutation is the same for all parts.
    contributions
        Measured contributions, shape (n_genes,).
    n_permutations, rng
        Number of exchanges, and their seed or generator.

    Returns
    -------
    (1 + #{exchanged contributions of any gene at least as large in size}) / (1 + all of these), shape (n_genes,).
    """
    generator, n_genes = np.random.default_rng(rng), len(contributions)
    # rounding must not make an exchange that changes nothing smaller than what was measured
    sizes = np.abs(contributions) * (1 - 1e-9)
    order = np.argsort(sizes)
    places = np.zeros(n_genes + 1, dtype=np.int64)  # how many measured sizes each exchanged one reaches
    for _ in range(n_permutations):
        exchanged = np.abs(np.einsum("bg,bg->g", changes, weights[:, generator.permutation(n_genes)]))
        places += np.bincount(np.searchsorted(sizes[order], exchanged, side="right"), minlength=n_genes + 1)
    n_larger = np.empty(n_genes, dtype=np.int64)
    n_larger[order] = places[::-1].cumsum()[::-1][1:]
    return (1 + n_larger) / (1 + n_permutations * n_genes)
