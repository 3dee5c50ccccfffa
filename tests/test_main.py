from __future__ import annotations

import matplotlib as mpl
import mudata
import numpy as np
import pandas as pd
import pytest

from semiclip.__main__ import main

mpl.use("Agg")


def test_the_demonstration_leaves_data_pictures_and_a_table(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "demo"), "--epochs", "2", "--seed", "1"]) == 0
    out = tmp_path / "demo"
    for picture in ("history", "recall", "venn"):
        assert mpl.image.imread(out / f"{picture}.png").shape[0] > 400
    assert "X_semiclip" in (out / "report.html").read_text(encoding="utf-8")
    knockouts = mudata.read_h5mu(out / "knockouts.h5mu")
    assert np.isfinite(knockouts["rna"].obsm["X_semiclip"]).all()
    table = pd.read_csv(out / "recall.csv")
    assert table["representation"].tolist() == (["X_pca"] * 3 + ["X_semiclip"] * 3) * 2
    assert table["correction"].tolist() == ["tvn"] * 6 + ["center"] * 6
    printed = capsys.readouterr().out
    for line in (
        "[6/6]",
        "share 900 keys",
        "random (labels permuted)",
        "unimodal (X_pca)",
        "Semi-Clipped",
        "written to",
    ):
        assert line in printed
    assert f"{table['value'].iloc[-1]:.3f}" in printed


@pytest.mark.usefixtures("data_dir")
def test_the_real_run(tmp_path, capsys):
    assert main(["--real", "--out", str(tmp_path / "real"), "--epochs", "2"]) == 0
    table = pd.read_csv(tmp_path / "real" / "recall.csv")
    assert table["key"].unique().tolist() == ["CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB", "mean", "union"]
    printed = capsys.readouterr().out
    assert "genes of reproducible constructs" in printed
    assert "mean rank percentile" in printed
    assert mudata.read_h5mu(tmp_path / "real" / "orfs.h5mu")["rna"].n_obs == 1092


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--real", "--encoder", "scvi"], "use --encoder pca"), (["--epochs", "0"], "at least 1")],
)
def test_arguments_that_cannot_work(arguments, message, capsys):
    assert main(arguments) == main(["demo", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(message in line for line in lines)
