"""Training and embedding by the command line are those of the library, and the result makes the same again."""

from __future__ import annotations

import tomllib
from importlib.metadata import version

import anndata
import mudata
import numpy as np

import semiclip as scl
from semiclip.__main__ import main


def train_by_hand(folder, columns, quiet_mudata) -> anndata.AnnData:
    """Return the knockouts as the library embeds them, with the settings of the study."""
    with quiet_mudata():
        mdata = mudata.read_h5mu(folder / "study.h5mu")
    encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, rng=3)
    reps = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
    options = {"recipe": "whole", "max_epochs": 2, "rng": 3, "plan_kwargs": {"lr": {"student": 0.05}}}
    model = scl.tl.semiclip(mdata, **reps, **columns, **options, accelerator="cpu", enable_progress_bar=False)
    knockouts = anndata.read_h5ad(folder / "knockouts.h5ad")
    scl.pp.encode(knockouts, encoder=encoder)
    scl.tl.embed(knockouts, model)
    return knockouts


def test_training_and_embedding_are_those_of_the_library(folder, columns, quiet_mudata):
    knockouts = train_by_hand(folder, columns, quiet_mudata)
    embedded = anndata.read_h5ad(folder / "embedded.h5ad")
    for key in ("X_pca", "X_semiclip"):
        np.testing.assert_array_equal(embedded.obsm[key], knockouts.obsm[key])
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["encoder", "model", "settings.toml"]


def test_the_result_says_how_it_was_made_and_makes_the_same_again(folder, tmp_path, text):
    resolved = tomllib.loads((folder / "results" / "settings.toml").read_text(encoding="utf-8"))
    versions = resolved.pop("versions")
    assert versions["semiclip"] == version("semiclip")
    assert versions["torch"] == version("torch")
    expected = tomllib.loads(text)
    del expected["evaluation"]
    expected["data"]["file"], expected["output"]["folder"] = str(folder / "study.h5mu"), str(folder / "results")
    expected["columns"]["control"] = ["control"]
    # what the recipe chose: the rate is named in the study, the rest is not
    expected["training"] |= {"pea": True, "plan": {"lr": {"student": 0.05}, "optimizer": "sgd", "min_lr": 1e-6}}
    expected["training"]["options"]["batch_size"] = 1024
    expected["student"]["modality"], expected["teacher"]["modality"] = "rna", "image"
    assert resolved == expected

    again = tmp_path / "again"
    assert main(["train", str(folder / "results" / "settings.toml"), "--out", str(again)]) == 0
    out = tmp_path / "deep" / "embedded.h5ad"  # the folder is made
    assert main(["embed", str(again / "model"), str(folder / "knockouts.h5ad"), "--out", str(out)]) == 0
    embedded = [anndata.read_h5ad(path).obsm["X_semiclip"] for path in (out, folder / "embedded.h5ad")]
    np.testing.assert_array_equal(*embedded)


def test_flags_do_what_the_file_does_and_go_before_it(folder, study, tmp_path, quiet_mudata):
    files = ["--rna", folder / "rna.h5ad", "--image", folder / "image.h5ad"]  # two files instead of one
    columns = ["--pair-on", "perturbation", "--pair-on", "dose", "--perturbation", "perturbation"]
    columns += ["--control", "control", "--batch", "batch"]
    training = ["--student-rep", "X_pca", "--teacher-rep", "X_image", "--recipe", "whole", "--epochs", 1, "--seed", 4]
    flags = map(str, [*files, *columns, *training, "--no-pea", "--out", tmp_path / "flags"])
    assert main(["train", *flags]) == 0
    changes = [
        ("epochs = 2", "epochs = 1\npea = false"),
        ("seed = 3", "seed = 9"),
        ("[training.plan]\nlr = {student = 0.05}", ""),
    ]
    changes += [
        ('encoder = "pca"', 'rep = "X_pca"'),
        ("[student.options]\nn_components = 8", ""),
        ('"whole"', '"paper"'),
    ]
    flags = ["--seed", "4", "--recipe", "whole", "--out", str(tmp_path / "file")]
    assert main(["train", str(study(*changes)), *flags]) == 0
    embeddings = []
    for name in ("flags", "file"):
        out = tmp_path / f"{name}.h5mu"
        assert main(["embed", str(tmp_path / name), str(folder / "knockouts.h5mu"), "--out", str(out)]) == 0
        with quiet_mudata():
            embeddings.append(mudata.read_h5mu(out)["rna"].obsm["X_semiclip"])
    np.testing.assert_array_equal(*embeddings)
    assert not (embeddings[0] == anndata.read_h5ad(folder / "embedded.h5ad").obsm["X_semiclip"]).all()


def test_data_without_controls_or_usual_names(folder, tmp_path, quiet_mudata):
    with quiet_mudata():
        mdata = mudata.MuData(
            {"cells": anndata.read_h5ad(folder / "rna.h5ad"), "photos": anndata.read_h5ad(folder / "image.h5ad")}
        )
        mdata.write(tmp_path / "study.h5mu")
    text = """
    data.file = "study.h5mu"
    columns = {pair_on = "perturbation", control = []}
    student = {rep = "X_pca", modality = "cells"}
    teacher = {rep = "X_image", modality = "photos"}
    training = {epochs = 1, recipe = "whole", pea = false, model = {n_hidden = [8], student_correction = "center"}}
    output.folder = "made"
    """
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    assert main(["train", str(tmp_path / "study.toml")]) == 0
    resolved = tomllib.loads((tmp_path / "made" / "settings.toml").read_text(encoding="utf-8"))
    assert resolved["columns"] == {"pair_on": ["perturbation"], "control": []}
    assert resolved["training"]["model"] == {"n_hidden": [8], "student_correction": "center"}
    assert resolved["training"]["pea"] is False
    model = scl.model.SemiClip.load(tmp_path / "made" / "model", adata=False)
    assert model.design.control is None
    assert (model.design.student, model.design.teacher) == ("cells", "photos")


def test_overwriting_replaces_a_result_and_nothing_else(folder, study, tmp_path, fails):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "notes.txt").write_text("mine", encoding="utf-8")
    path = study(("epochs = 2", "epochs = 1"))
    assert "mine.toml: output.folder" in fails(1, "train", path)
    assert main(["train", str(path), "--overwrite"]) == 0
    assert main(["train", str(path), "--overwrite", "--student-rep", "X_pca", "--seed", "1"]) == 0
    assert (tmp_path / "results" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert tomllib.loads((tmp_path / "results" / "settings.toml").read_text(encoding="utf-8"))["training"]["seed"] == 1
    # the encoder of the first training does not belong to the second model
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["model", "notes.txt", "settings.toml"]
    (tmp_path / "results" / "encoder").mkdir()  # of somebody else
    (tmp_path / "results" / "encoder" / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["train", str(path), "--overwrite", "--student-rep", "X_pca", "--seed", "1"]) == 0
    assert [path.name for path in (tmp_path / "results" / "encoder").iterdir()] == ["mine.txt"]
    embed = ["embed", tmp_path / "results", folder / "knockouts.h5ad", "--out", tmp_path / "new.h5ad"]
    assert "student_rep='X_pca' (from the model) is not in obsm" in fails(1, *embed)
