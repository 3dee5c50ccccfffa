"""Memory stays bounded where genes are many, and results are the same to the last bit as with all cosines in memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import semiclip as scl
from semiclip import errors, metrics
from semiclip.metrics import _cosines, _hits, _ranks

LEVELS = [(0.05, 0.95), (0.1, 0.9), (0.25, 0.75), (0.0, 1.0)]
COLUMNS = {"perturbation_key": "gene", "control": "control", "method": "center"}

PEAK = """\
import numpy as np, pandas as pd
from anndata import AnnData
import semiclip as scl
from semiclip.tl import _preservation, _recall
from semiclip.metrics import relationship_recall
import matplotlib, scipy.sparse, tqdm.auto, torch
from pathlib import Path

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

{make}
Path("/proc/self/clear_refs").write_text("5")
held = status("VmRSS")
{run}
print((status("VmHWM") - held) / 1e9)
"""

MAP = """\
n, d = {n}, {d}
rng = np.random.default_rng(0)
genes = np.array([f"GENE{{i:06}}" for i in range(n)])
labels = np.append(genes, np.repeat("control", 100))
adata = AnnData(obs=pd.DataFrame(dict(gene=labels), index=[f"row{{i}}" for i in range(len(labels))]))
adata.obsm["X_rep"] = rng.standard_normal((len(labels), d), dtype=np.float32)
pairs = pd.DataFrame({{name: rng.choice(genes, 20_000) for name in ("gene_a", "gene_b")}})
options = dict(use_rep="X_rep", perturbation_key="gene", control="control", method="center", relationships=pairs, rng=0)
"""


def peak_gb(make, run):
    """Return how much memory a call takes above its data, in a process of its own."""
    if sys.platform != "linux":
        pytest.skip("the peak is read from /proc")
    script = PEAK.format(make=make, run=run)
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout.split()[-1])


def read_by_blocks(monkeypatch, *, double=False):
    """Take the way of large maps for small ones, with several blocks, strips and brackets."""
    monkeypatch.setattr(_cosines, "ROWS", 32)
    monkeypatch.setattr(_cosines, "COLUMNS", 48)
    monkeypatch.setattr(_cosines, "CHUNK", 4)
    monkeypatch.setattr(_ranks, "FEW", 0)
    monkeypatch.setattr(_ranks, "SAMPLE", 500)
    monkeypatch.setattr(_hits, "HITS", 5_000)
    if double:
        monkeypatch.setattr(_ranks, "HELD", -1)


def values(kind, n=201, d=6):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    if kind == "copies":  # a quarter of the rows are the same row
        x[: n // 4] = x[0]
    return {"constant": np.ones((n, d)), "line": np.sign(x[:, :1]) * np.ones((n, d))}.get(kind, x)


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    gene = [*(f"G{i:03}" for i in range(150)), *(f"G{i:03}" for i in range(0, 150, 2)), *["control"] * 30]
    data = AnnData(obs=pd.DataFrame({"gene": gene}, index=[f"row{i}" for i in range(len(gene))]))
    data.obsm["X_a"], data.obsm["X_b"] = rng.normal(size=(2, len(gene), 8))
    return data


@pytest.fixture
def annotated():
    rng = np.random.default_rng(1)
    first, second = rng.choice([f"G{i:03}" for i in range(201)], (2, 900))
    return pd.DataFrame({"gene_a": first, "gene_b": second, "database": rng.choice(["x", "y", "z"], 900)})


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["normal", "copies", "constant", "line"])
def test_recall_by_blocks_has_the_same_bits(kind, double, annotated, monkeypatch):
    x, genes = values(kind), [f"G{i:03}" for i in range(201)]

    def measure():
        generator = np.random.default_rng(7)
        recall = metrics.relationship_recall(x, genes, annotated, thresholds=LEVELS, n_permutations=30, rng=generator)
        after = generator.random()
        tables = [metrics.recalled_pairs(x, genes, annotated), metrics.similarity(x, genes, annotated, n_bins=13)]
        return [recall, *tables], after

    whole, state = measure()
    read_by_blocks(monkeypatch, double=double)
    blocks, state_by_blocks = measure()
    for expected, table in zip(whole, blocks, strict=True):
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert state_by_blocks == state  # a generator of the user's stands where it stood


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_overlaps_by_blocks_have_the_same_bits(adata, single, double, annotated, monkeypatch):
    if single:
        adata = adata[~adata.obs["gene"].duplicated() | (adata.obs["gene"] == "control")]
    options = {"use_rep": "X_a", **COLUMNS, "relationships": annotated, "n_permutations": 20, "rng": 0}
    options |= {"references": ["X_b", "X_a"], "progress_bar": False}
    expected = scl.tl.null_overlap(adata, **options)
    read_by_blocks(monkeypatch, double=double)
    pd.testing.assert_frame_equal(scl.tl.null_overlap(adata, **options), expected, check_exact=True)


def test_a_decoder_that_memory_cannot_hold_is_refused_with_its_size(refuses):
    rng, n, n_genes = np.random.default_rng(0), 60, 1_000_000
    obs = pd.DataFrame({"gene": ["control", "A", "B"] * 20, "batch": np.repeat(list("wxyz"), 15)})
    counts = sparse.csr_matrix((np.ones(n, dtype=np.float32), (np.arange(n), np.arange(n) % 7)), shape=(n, n_genes))
    data = AnnData(counts, obs=obs.set_axis([f"row{i}" for i in range(n)]))
    data.obsm["X_rep"] = rng.normal(size=(n, 4))
    options = {"use_rep": "X_rep", "perturbation_key": "gene", "control": "control", "batch_key": "batch"}
    # weights, gradients, two moments: 4 · 5/4 n² values of 4 bytes; two temporaries of the largest layer: 2 · 3/4 n²
    needed = pytest.approx(26_000, rel=1e-4)
    with refuses(errors.TooLarge, needed_gb=needed, device="cpu"):
        scl.tl.preservation(data, **options, device="cpu", rng=0, progress_bar=False)
    assert issubclass(errors.TooLarge, MemoryError)


@pytest.mark.slow
@pytest.mark.parametrize(("call", "limit"), [("recall", 1.0), ("null_overlap", 1.0)])
def test_maps_of_20_000_genes_need_less_than_their_cosines(call, limit):
    """All cosines in float64 are 1.6 GB; at 768 dimensions recall took 2.1 GB and the overlap 5.3 GB before."""
    rest = {"recall": "n_permutations=2", "null_overlap": "n_permutations=1, references='X_rep', progress_bar=False"}
    assert peak_gb(MAP.format(n=20_000, d=64), f"scl.tl.{call}(adata, **options, {rest[call]})") < limit


@pytest.mark.slow
def test_preservation_of_20_000_genes_needs_half_a_gigabyte():
    make = """\
rng = np.random.default_rng(0)
predictions, targets = (rng.standard_normal((3_000, 20_000), dtype=np.float32) for _ in range(2))
batch, control = np.arange(3_000) % 10, rng.random(3_000) < 0.2"""
    assert peak_gb(make, "scl.metrics.preservation(predictions, targets, batch, control)") < 0.5


@pytest.mark.slow
def test_training_a_decoder_needs_what_is_said():
    from semiclip.tl._decoder import training_bytes

    make = """\
from semiclip.tl._decoder import fit_decoder
x, y = np.ones((64, 8), dtype=np.float32), np.ones((64, 6_000), dtype=np.float32)
fit_decoder(x, y[:, :10], max_epochs=1, device="cpu", progress_bar=False)"""
    needed = peak_gb(make, 'fit_decoder(x, y, max_epochs=2, device="cpu", progress_bar=False)')
    assert needed == pytest.approx(training_bytes(8, 6_000) / 1e9, rel=0.15)
