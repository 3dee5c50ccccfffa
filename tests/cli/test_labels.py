"""Labels that name nothing, and combinations, as a study or flags tell of them."""

from __future__ import annotations

import re
import tomllib

import anndata
import pytest

import semiclip as scl
from semiclip.__main__ import main


@pytest.mark.parametrize("place", ["file", "flags"])
def test_labels_that_are_none_and_parts_of_a_combination(folder, study, tmp_path, capsys, warned, place):
    names = {"compound_00": "a+b", "compound_01": "blank", "compound_02": "unknown"}  # of three doses each
    for modality in ("rna", "image"):
        adata = anndata.read_h5ad(folder / f"{modality}.h5ad")
        renamed = adata.obs["perturbation"].astype(str).replace(names)
        adata.obs["perturbation"] = renamed.replace("a+b", "b + a") if modality == "image" else renamed
        adata.write_h5ad(tmp_path / f"{modality}.h5ad")
    files = ["--rna", str(tmp_path / "rna.h5ad"), "--image", str(tmp_path / "image.h5ad")]
    n_shared = []
    for settings in ({}, {"separator": "+"}, {"separator": "+", "unlabelled": ["blank", ""]}, {"unlabelled": []}):
        flags = [flag for key, value in settings.items() for part in value or [""] for flag in (f"--{key}", part)]
        lines = [] if place == "flags" else [f"{key} = {value!r}" for key, value in settings.items()]
        path = study(("[student]", "\n".join([*lines, "[student]"])))
        assert main(["check", str(path), *files, *(flags if place == "flags" else [])]) == 0
        n_shared.append(int(re.search(r"shared_keys: (\d+)", capsys.readouterr().out)[1]))
    assert n_shared == [72 - 3 - 3, 72 - 3, 72 - 3, 72 - 3]
    told = [re.search("names nothing: '(.*?)'", message)[1] for message in warned()]
    assert told == ["unknown", "unknown"] * 2 + ["blank", "blank"]


@pytest.mark.parametrize(("setting", "n"), [("", 1), ("unlabelled = []\n", 0), ('unlabelled = ["gene_01"]\n', 1)])
def test_what_judges_heeds_labels_that_are_none(folder, study, tmp_path, warned, setting, n):
    adata = anndata.read_h5ad(folder / "embedded.h5ad")
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({"gene_00": "NA"})
    adata.write_h5ad(tmp_path / "mine.h5ad")
    path = study(("[student]", f"{setting}[student]"))
    told = "'NA'" if not setting else "'gene_01'"
    for command in (["evaluate", "--out", tmp_path / "mine.csv"], ["report", "--out", tmp_path / "mine.html"]):
        name, *flags = map(str, command)
        assert main([name, str(tmp_path / "mine.h5ad"), "--study", str(path), *flags]) == 0
        messages = warned()  # once, though there are two corrections
        assert [f"perturbation: {told} " in message for message in messages] == [True] * n


def test_training_takes_them_too(folder, study, tmp_path):
    path = study(("[student]", 'separator = "+"\nunlabelled = ["compound_00"]\n[student]'))
    with pytest.warns(scl.errors.SemiclipWarning, match="names nothing: 'compound_00'"):
        assert main(["train", str(path), "--epochs", "1"]) == 0
    resolved = tomllib.loads((path.parent / "results" / "settings.toml").read_text(encoding="utf-8"))
    assert resolved["columns"]["unlabelled"] == ["compound_00"]
    assert resolved["columns"]["separator"] == "+"
    design = scl.model.SemiClip.load(path.parent / "results" / "model", adata=False).design
    assert (design.unlabelled, design.separator) == (("compound_00",), "+")
