"""Files as people have them: compressed, in other encodings, empty, cut, crafted, or written by several at once."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pooch
import pytest
from anndata import AnnData
from scipy import sparse

import semiclip as scl
from semiclip import errors
from semiclip._csv import format_csv
from semiclip.model import SemiClip

GENES = "Größe\tna\tTP53\tMDM2\r\nSet2\tna\tBRCA1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_gene_sets_are_read_in_any_usual_encoding(tmp_path, encoding, compress):
    path = tmp_path / "sets.gmt"
    path.write_bytes(compress(GENES.encode(encoding)))
    assert scl.datasets.gene_sets(path) == {"Größe": ["TP53", "MDM2"], "Set2": ["BRCA1"]}


@pytest.mark.parametrize(
    "content",
    [bytes(range(256)), GENES.encode("utf-16"), gzip.compress(100 * GENES.encode())[:-20], b"\x1f\x8b and no more"],
    ids=["binary", "utf-16", "cut", "no gzip"],
)
def test_gene_sets_that_are_no_text_are_named(tmp_path, refuses, content):
    path = tmp_path / "sets.gmt"
    path.write_bytes(content)
    with refuses(errors.DamagedFile, path=path):
        scl.datasets.gene_sets(path)


def test_a_table_of_a_header_alone_has_no_rows(tmp_path, refuses):
    path = tmp_path / "plate.csv"
    path.write_text("Metadata_Plate,Metadata_Well,Metadata_drug,Cells_Area\n")
    with refuses(errors.Empty, what=f"rows in {path}"):
        scl.io.profiles(path, perturbation_key="drug", control="DMSO")
    samples = AnnData(obs=pd.DataFrame({"Plate": ["p1"], "Well": ["A1"]}, index=["x"]))
    with refuses(errors.Empty, what=f"rows in {path}"):
        scl.io.plate_map(samples, path)


@pytest.mark.parametrize("backed", [True, False])
@pytest.mark.parametrize("kind", ["empty", "text", "other", "cut"])
def test_an_h5ad_that_is_none_is_named(tmp_path, monkeypatch, refuses, kind, backed):
    path = tmp_path / "crispr_l1000.h5ad"
    path.write_bytes(b"" if kind == "empty" else b"text")
    if kind == "other":
        with h5py.File(path, "w") as file:
            file["x"] = np.ones(3)
    if kind == "cut":
        AnnData(np.ones((50, 40), dtype=np.float32)).write(path)
        path.write_bytes(path.read_bytes()[:-500])
    monkeypatch.setenv("SEMICLIP_DATA_DIR", str(tmp_path))
    with refuses(errors.DamagedFile, path=path):
        scl.datasets.l1000_crispr(backed=backed)


@pytest.mark.parametrize("depth", [900, 100_000])
@pytest.mark.parametrize("name", ["encoder", "model"])
def test_json_of_any_depth_is_a_damaged_file(tmp_path, refuses, name, depth):
    load = {"encoder": scl.encoders.load, "model": SemiClip.load_registry}[name]
    path = tmp_path / f"{name}.json"
    path.write_text("[" * depth + "]" * depth)
    with refuses(errors.DamagedFile, path=path):
        load(tmp_path)


def test_json_of_any_depth_is_a_damaged_file_of_scgpt(tmp_path, mdata, refuses):
    for name in ("args.json", "vocab.json", "best_model.pt"):
        (tmp_path / name).write_text("[" * 100_000)
    with refuses(errors.DamagedFile):
        scl.encoders.ScGPTEncoder(tmp_path).fit(mdata["rna"])


@pytest.mark.parametrize("make", [np.zeros, sparse.csr_matrix, sparse.csc_matrix])
def test_counts_that_are_all_zero_have_no_components(mdata, refuses, make):
    adata = AnnData(make((20, 30)))
    with refuses(errors.NoVariation):
        scl.encoders.PCAEncoder(n_components=3).fit(adata)
    fitted = scl.encoders.PCAEncoder(n_components=3, rng=0).fit(mdata["rna"])
    empty = AnnData(make(mdata["rna"].shape), var=mdata["rna"].var[[]])
    found = fitted.encode(empty)  # as a fitted encoder sees it, a sample without counts is one like any other
    expected = -(fitted.model_.components_ @ fitted.model_.mean_)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("profile", ["clean", "batch"])
def test_a_batch_whose_controls_are_all_alike_is_named(mdata, refuses, profile):
    adata = mdata["rna"]
    obs = adata.obs
    batch = obs["batch"].unique()[1]
    alike = np.flatnonzero((obs["perturbation"] == "control") & (obs["batch"] == batch))
    adata.obsm["X_pca"][alike] = adata.obsm["X_pca"][alike[0]]
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    with refuses(errors.NoVariation, items=[batch]):
        scl.pp.pea_correct(adata, use_rep="X_pca", **columns, profile=profile, ridge=0.5)
    scl.pp.pea_correct(adata, use_rep="X_pca", **columns, method="center")  # the way out


# ---- a download cache that several processes fill

NAME, CONTENT = "relationships/SIGNOR.txt", b"entity1,entity2\nA,B\n" * 10_000
FETCH = """
import pathlib, sys, time
import pooch
import semiclip as scl
cache, address, sha256, start = sys.argv[1:]
create = pooch.create
class Cache(pooch.Pooch):
    def load_registry(self, path): self.registry = {"relationships/SIGNOR.txt": sha256}
pooch.create = lambda path, base_url, retry_if_failed: Cache(path, address, retry_if_failed=retry_if_failed)
pooch.os_cache = lambda name: pathlib.Path(cache)
print("ready", flush=True)
while not pathlib.Path(start).exists(): time.sleep(0.001)
print(scl.datasets.fetch("relationships/SIGNOR.txt"))
"""


def test_processes_fill_one_cache_at_once(tmp_path):
    site = tmp_path / "site" / NAME
    site.parent.mkdir(parents=True)
    site.write_bytes(CONTENT)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    handler.log_message = lambda *_: None
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    environment.pop("SEMICLIP_DATA_DIR", None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        start = tmp_path / "start"
        command = [sys.executable, "-c", FETCH, tmp_path / "cache", address, hashlib.sha256(CONTENT).hexdigest(), start]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, env=environment, **pipes) for _ in range(4)]
        for worker in workers:
            worker.stdout.readline()
        start.touch()
        results = [(*worker.communicate(timeout=60), worker.returncode) for worker in workers]
        server.shutdown()
    path = tmp_path / "cache" / NAME
    assert [(out.strip(), code) for out, _, code in results] == 4 * [(str(path), 0)], results
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == CONTENT


def test_a_folder_that_another_process_just_made_is_no_error(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    makedirs = os.makedirs

    def make_second(path, *args, **kwargs):
        makedirs(path, exist_ok=True)  # another process was faster
        makedirs(path, *args, **kwargs)

    def download(url, output, _):
        Path(output).write_bytes(CONTENT)

    monkeypatch.setattr(os, "makedirs", make_second)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_, **__: download)
    monkeypatch.setattr(pooch.core, "hash_matches", lambda *_, **__: True)
    monkeypatch.delenv("SEMICLIP_DATA_DIR", raising=False)
    assert scl.datasets.fetch(NAME).read_bytes() == CONTENT


# ---- tables that go to a spreadsheet


def test_labels_compute_nothing_and_numbers_stay_numbers():
    labels = ["=1+1", "+cmd|'/c calc'!A0", "-A1", "@SUM(A1)", "\tx", "-2.5", "+3", "TP53", None]
    table = pd.DataFrame(
        {"gene": labels, "=key": pd.Categorical(labels), "z": np.linspace(-1, 1, 9), "n": range(-4, 5)}
    )
    before = table.copy()
    read = pd.read_csv(io.StringIO(format_csv(table)), dtype={"gene": str, "'=key": str})
    assert read.columns.tolist() == ["gene", "'=key", "z", "n"]
    safe = [*(f"'{label}" for label in labels[:5]), "-2.5", "+3", "TP53"]
    assert read["gene"].tolist()[:8] == read["'=key"].tolist()[:8] == safe
    assert read["gene"].isna().tolist() == table["gene"].isna().tolist()
    np.testing.assert_array_equal(read[["z", "n"]], table[["z", "n"]])
    pd.testing.assert_frame_equal(table, before)
    plain = table[["z", "n"]].assign(name="a,b", nothing=np.nan)
    assert format_csv(plain) == plain.to_csv(index=False, lineterminator="\n")
