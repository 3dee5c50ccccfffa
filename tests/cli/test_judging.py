"""What the command line says of data, of embeddings and in reports is what the library says."""

from __future__ import annotations

import anndata
import pandas as pd

import semiclip as scl
from semiclip.__main__ import main


def test_recall_is_that_of_the_library_after_both_corrections(folder, columns, tmp_path, capsys):
    data, out, other = str(folder / "embedded.h5ad"), tmp_path / "recall.csv", tmp_path / "flags.csv"
    assert main(["evaluate", data, "--study", str(folder / "study.toml"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(out)
    adata, pairs = anndata.read_h5ad(data), pd.read_csv(folder / "relationships.csv")
    arguments = {**columns, "relationships": pairs, "n_permutations": 100, "rng": 5}
    for method in ("tvn", "center"):
        expected = scl.tl.recall(adata, use_rep=["X_pca", "X_semiclip"], **arguments, method=method)
        rows = table[table["correction"] == method].drop(columns="correction").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, expected, check_dtype=False)
        assert f"{expected['value'].iloc[-1]:.3f} ± {expected['error'].iloc[-1]:.3f}" in printed
    flags = ["--perturbation", "perturbation", "--control", "control", "--batch", "batch", "--rep", "X_pca"]
    flags += ["--rep", "X_semiclip", "--relationships", str(folder / "relationships.csv"), "--seed", "5"]
    assert main(["evaluate", data, *flags, "--permutations", "100", "--out", str(other)]) == 0
    assert other.read_bytes() == out.read_bytes()
    assert main(["evaluate", data, *flags, "--permutations", "0", "--out", str(other), "--overwrite"]) == 0
    assert "p_value" not in pd.read_csv(other)
    assert "random" not in capsys.readouterr().out.split("flags.csv")[-2]


def test_the_report_is_that_of_the_library(folder, columns, tmp_path):
    data, out = folder / "embedded.h5ad", tmp_path / "page.html"
    assert main(["report", str(data), "--study", str(folder / "study.toml"), "--out", str(out)]) == 0
    pairs = pd.read_csv(folder / "relationships.csv")
    arguments = {**columns, "relationships": pairs, "n_permutations": 100, "rng": 5, "progress_bar": False}
    by_hand = scl.report(anndata.read_h5ad(data), tmp_path / "hand.html", use_rep=["X_pca", "X_semiclip"], **arguments)
    lines = [path.read_text(encoding="utf-8").splitlines() for path in (out, by_hand)]
    differ = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    assert len(differ) <= 3  # when it was made


def test_check_prints_findings_and_pairs(folder, study, tmp_path, capsys):
    assert main(["check", str(folder / "study.toml")]) == 0
    printed = capsys.readouterr().out
    assert "shared_keys: 72" in printed
    assert "nothing stands in the way" in printed
    image = anndata.read_h5ad(folder / "image.h5ad")
    image.obs["dose"] *= 1000
    image.write_h5ad(tmp_path / "image.h5ad")
    flags = ["--rna", str(folder / "rna.h5ad"), "--image", str(tmp_path / "image.h5ad")]
    assert main(["check", str(study()), *flags]) == 1
    printed = capsys.readouterr()
    assert "mdata['image'].obs['dose'] /= 1000" in printed.out
