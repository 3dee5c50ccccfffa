import anndata
import numpy as np
import pandas as pd
import pytest

GENES = [f"GENE{i:02}" for i in range(30)]


def _make_screen(seed=0, n_controls=30):
    """30 genes, two by two alike, and two control labels, unequally often, in three plates that differ by an offset."""
    rng = np.random.default_rng(seed)
    genes = rng.permutation(np.append(np.repeat(GENES, rng.integers(2, 6, 30)), ["EGFP", "LACZ"] * n_controls))
    plate = rng.integers(0, 3, len(genes))
    alike = np.repeat(np.random.default_rng(0).normal(size=(15, 8)), 2, axis=0)
    means = dict(zip([*GENES, "EGFP", "LACZ"], [*alike, 0, 0], strict=True))
    obs = pd.DataFrame({"gene": pd.Categorical(genes), "plate": plate.astype(str)})
    obs["moa"] = obs["gene"].astype(str).str[-1]
    obs.index = [f"well{i}" for i in range(len(obs))]
    adata = anndata.AnnData(X=rng.random((len(obs), 6)).astype(np.float32), obs=obs)
    for name in ("signal", "other"):
        adata.obsm[name] = np.stack([means[gene] + rng.normal(size=8) for gene in genes]) + 3 * plate[:, None]
    adata.obsm["noise"] = rng.normal(size=(len(obs), 5)).astype(np.float32)
    return adata


@pytest.fixture
def make_screen():
    return _make_screen


@pytest.fixture
def adata():
    return _make_screen()


@pytest.fixture
def known():
    """Pairs of two databases, three of them in both, and one with a control label."""
    within = pd.DataFrame({"database": "within", "gene_a": GENES[::2], "gene_b": GENES[1::2]})
    across = pd.DataFrame({"database": "across", "gene_a": GENES[:15], "gene_b": GENES[15:]})
    both = within.head(3).assign(database="across").rename(columns={"gene_a": "gene_b", "gene_b": "gene_a"})
    of_control = pd.DataFrame({"database": ["across"], "gene_a": ["EGFP"], "gene_b": ["GENE00"]})
    return pd.concat([within, across, both, of_control], ignore_index=True)
