"""The command line: its numbers are those of the library, and each mistake is one line that names the setting."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

STUDY = """
[data]
file = "study.h5mu"
[columns]
pair_on = ["perturbation", "dose"]
perturbation = "perturbation"
control = "control"
batch = "batch"
[student]
encoder = "pca"
[student.options]
n_components = 8
[teacher]
rep = "X_image"
[training]
recipe = "whole"
epochs = 2
seed = 3
[training.options]
accelerator = "cpu"
[training.plan]
lr = {student = 0.05}
[evaluation]
rep = ["X_pca", "X_semiclip"]
relationships = "relationships.csv"
permutations = 100
seed = 5
[output]
folder = "results"
"""
COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
COMMANDS = ["init", "check", "train", "embed", "evaluate", "report", "paper", "demo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_study) -> Path:
    """A folder with the files of a study, a trained model in ``results`` and ``embedded.h5ad``."""
    folder = tmp_path_factory.mktemp("cli")
    knockouts = small_study.knockouts["rna"].copy()
    del knockouts.obsm["X_pca"]
    knockouts.write_h5ad(folder / "knockouts.h5ad")
    for name, adata in small_study.mdata.mod.items():
        adata.write_h5ad(folder / f"{name}.h5ad")
    with quiet_mudata():
        small_study.mdata.write(folder / "study.h5mu")
        small_study.knockouts.write(folder / "knockouts.h5mu")
    small_study.relationships.to_csv(folder / "relationships.csv", index=False)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    assert main(["train", str(folder / "study.toml")]) == 0
    embed = ["embed", str(folder / "results"), str(folder / "knockouts.h5ad")]
    assert main([*embed, "--out", str(folder / "embedded.h5ad")]) == 0
    return folder


@pytest.fixture
def study(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the study with some text replaced, to a folder of its own; files stay where they are."""

    def write(*changes: tuple[str, str]) -> Path:
        text = re.sub(r'"(study.h5mu|relationships.csv)"', rf'"{folder.as_posix()}/\1"', STUDY)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return tmp_path / "mine.toml"

    return write


@pytest.fixture
def fails(capsys) -> Callable[..., str]:
    """Run a command that must fail with a status; return the one line that it says, without "error: "."""

    def fail(status: int, *arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0].removeprefix("error: ")

    return fail


def quiet_mudata() -> AbstractContextManager[object]:
    """Write and read without the warnings of mudata 0.3 about the behaviour of 0.4."""
    return mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()


def train_by_hand(folder: Path) -> anndata.AnnData:
    """Return the knockouts as the library embeds them, with the settings of the study."""
    with quiet_mudata():
        mdata = mudata.read_h5mu(folder / "study.h5mu")
    encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8, rng=3)
    reps = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
    options = {"recipe": "whole", "max_epochs": 2, "rng": 3, "plan_kwargs": {"lr": {"student": 0.05}}}
    model = scl.tl.semiclip(mdata, **reps, **COLUMNS, **options, accelerator="cpu", enable_progress_bar=False)
    knockouts = anndata.read_h5ad(folder / "knockouts.h5ad")
    scl.pp.encode(knockouts, encoder=encoder)
    scl.tl.embed(knockouts, model)
    return knockouts


def test_training_and_embedding_are_those_of_the_library(folder):
    knockouts, embedded = train_by_hand(folder), anndata.read_h5ad(folder / "embedded.h5ad")
    for key in ("X_pca", "X_semiclip"):
        np.testing.assert_array_equal(embedded.obsm[key], knockouts.obsm[key])
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["encoder", "model", "settings.toml"]


def test_the_result_says_how_it_was_made_and_makes_the_same_again(folder, tmp_path):
    resolved = tomllib.loads((folder / "results" / "settings.toml").read_text(encoding="utf-8"))
    versions = resolved.pop("versions")
    assert versions["semiclip"] == version("semiclip")
    assert versions["torch"] == version("torch")
    expected = tomllib.loads(STUDY)
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


def test_flags_do_what_the_file_does_and_go_before_it(folder, study, tmp_path):
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


def test_recall_is_that_of_the_library_after_both_corrections(folder, tmp_path, capsys):
    data, out, other = str(folder / "embedded.h5ad"), tmp_path / "recall.csv", tmp_path / "flags.csv"
    assert main(["evaluate", data, "--study", str(folder / "study.toml"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(out)
    adata, pairs = anndata.read_h5ad(data), pd.read_csv(folder / "relationships.csv")
    arguments = {**COLUMNS, "relationships": pairs, "n_permutations": 100, "rng": 5}
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


def test_the_report_is_that_of_the_library(folder, tmp_path):
    data, out = folder / "embedded.h5ad", tmp_path / "page.html"
    assert main(["report", str(data), "--study", str(folder / "study.toml"), "--out", str(out)]) == 0
    pairs = pd.read_csv(folder / "relationships.csv")
    arguments = {**COLUMNS, "relationships": pairs, "n_permutations": 100, "rng": 5, "progress_bar": False}
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


def test_the_template_names_every_setting_and_is_never_replaced(tmp_path, fails, monkeypatch):
    from semiclip._cli._settings import KEYS, UNSEEN

    path = tmp_path / "study.toml"
    assert main(["init", str(path)]) == 0
    before = path.read_text(encoding="utf-8")
    document = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = |\[)", "", before))
    for table in ("options", "model", "plan"):
        assert all(document.get(name, {}).get(table, True) for name in ("student", "training"))
    assert set(document.pop("methods")["shared"]) == {"objective", "recipe"}
    assert set(document.pop("unseen")["knockouts"]) == {*UNSEEN}
    assert {f"{table}.{key}" for table, keys in document.items() for key in keys} | {"training.pea"} == {*KEYS}
    path.write_text("mine", encoding="utf-8")
    assert "pass --overwrite" in fails(1, "init", path)
    assert path.read_text(encoding="utf-8") == "mine"
    assert main(["init", str(path), "--overwrite"]) == 0
    assert path.read_text(encoding="utf-8") == before
    monkeypatch.chdir(tmp_path / "..")
    assert main(["init", str(tmp_path / "new" / "study.toml")]) == 0


@pytest.mark.parametrize(
    ("status", "change", "says"),
    [
        (1, ('batch = "batch"', 'batch = "plate"'), "mine.toml: columns.batch: batch_key='plate' is not a column"),
        (1, ('perturbation = "p', 'perturbation = "q'), "columns.perturbation: perturbation_key='qerturbation'"),
        (1, ("study.h5mu", "gone.h5mu"), "gone.h5mu (mine.toml: data.file)"),
        (2, ("study.h5mu", "study.csv"), "mine.toml: data.file="),
        (2, ("batch =", "batc ="), "mine.toml: [columns]: got an unexpected keyword argument 'batc'; did you mean"),
        (2, ("batch =", "seed ="), "it is an argument of [training]"),
        (2, ("[columns]", "[column]"), "mine.toml: got an unexpected keyword argument 'column'; did you mean"),
        (2, ("epochs = 2", 'epochs = "ten"'), "mine.toml: training.epochs is of type str; it must be a whole number"),
        (2, ("epochs = 2", "epochs = 0"), "mine.toml: training.epochs=0 must be a whole number of at least 1"),
        (2, ("epochs = 2", "epochs = true"), "mine.toml: training.epochs is of type bool"),
        (2, ('"whole"', '"hole"'), "mine.toml: training.recipe='hole' is not one of shared, whole, paper"),
        (1, ('control = "control"', 'control = "DMSO"'), "mine.toml: columns.control: control label(s) DMSO match"),
        (2, ('control = "control"\n', ""), "mine.toml: columns.control is not given; set it in"),
        (1, ('rep = "X_image"', 'rep = "X_imag"'), "mine.toml: teacher.rep: teacher_rep='X_imag' is not in obsm"),
        (1, ("[training]", "[training"), "mine.toml cannot be read: "),
        (2, ("seed = 3", "seed = -1"), "mine.toml: training.seed=-1 must be a whole number of at least 0"),
        (2, ("seed = 3", "seed = 1.5"), "mine.toml: training.seed is of type float; it must be a whole number"),
        (2, ('"pca"', '"pac"'), "mine.toml: student.encoder: encoder='pac' is not one of"),
        (2, ("n_components", "n_component"), "mine.toml: student.encoder: encoder='pca': got an unexpected keyword"),
        (2, ("[student]\n", '[student]\nrep = "X_pca"\n'), "student.encoder does not go with"),
        (2, ("accelerator =", "rng = 1 #"), "mine.toml: training.options: 'rng' is a setting of its own"),
        (2, ("n_components = 8", 'encoder = "scvi"'), "mine.toml: student.options: 'encoder' is a setting of its own"),
        (2, ("accelerator =", "acelerator ="), "mine.toml: training.options: training: got an unexpected keyword"),
        (2, ('pair_on = ["perturbation", "dose"]', "pair_on = [1]"), "mine.toml: columns.pair_on is of type list"),
        (2, ('folder = "results"', ""), "mine.toml: output.folder is not given; set it in a TOML file or by --out"),
    ],
)  # fmt: skip
def test_each_mistake_in_the_file_is_one_line_that_names_the_setting(study, fails, status, change, says):
    path = study(change)
    assert says in fails(status, "train", path)
    assert not (path.parent / "results").exists()


COUNT, TEXT, LIST = "it must be a whole number", "it must be a text in quotes", "it must be a list of whole numbers"


@pytest.mark.parametrize(
    ("table", "option", "says"),
    [
        ("student.options", 'n_components = "many"', f" is of type str; {COUNT}"),
        ("student.options", "n_components = 2.5", f" is of type float; {COUNT}"),
        ("student.options", "n_components = [8]", f" is of type list; {COUNT}"),
        ("student.options", 'normalize = "no"', " is of type str; it must be true or false"),
        ("student.options", "layer = 5", f" is of type int; {TEXT}"),
        ("training.model", "n_hidden = 8", f" is of type int; {LIST} or a text in quotes"),
        ("training.model", 'n_hidden = ["a"]', f" is of type list; {LIST} or a text in quotes"),
        ("training.model", "n_hidden = [0]", ": n_hidden=[0] must be 'auto' or a list of widths"),
        ("training.model", 'encoder = "x"', " is of type str; it must be a table"),
        ("training.model", 'temperature = "x"', ": temperature='x' must be a finite number above 0"),
        ("training.plan", "lr = [0.1]", " is of type list; it must be a number or a table"),
        ("training.plan", 'lr = {student = "x"}', ": lr of student='x' must be a finite number at least 0"),
        ("training.plan", 'steps_per_call = "x"', f" is of type str; {COUNT}"),
        ("training.plan", 'schedule = ["cosine"]', f" is of type list; {TEXT}"),
        ("training.options", "views = 5", f" is of type int; {TEXT} or a list of texts"),
        ("training.options", 'early_stopping = "yes"', " is of type str; it must be true or false"),
        ("training.options", 'early_stopping_patience = "x"', f" is of type str; {COUNT}"),
        ("training.options", 'gradient_clip_val = "x"', " is of type str; it must be a number"),
        ("training.options", 'callbacks = ["x"]', " is of type list; it must be left out: a TOML file cannot hold it"),
        ("training.options", "key_added = 5", f" is of type int; {TEXT}"),
        ("training.options", 'devices = "x"', ": `devices` selected with `CPUAccelerator` should be an int > 0."),
        ("training.options", 'strategy = "x"', ": You selected an invalid strategy name"),
        ("training.options", 'max_time = "x"', ": `Timer(duration='x')` is not a valid duration."),
        ("training.pea", 'min_controls = "x"', ": min_controls='x' must be a whole number of at least 2"),
    ],
)  # fmt: skip
def test_each_wrong_option_is_one_line_that_names_it(study, fails, table, option, says):
    places = {"student.options": "n_components = 8", "training.plan": "lr = {student = 0.05}"}
    if table in places:
        change = places[table], option
    elif table == "training.options":
        change = "accelerator =", f"{option}\naccelerator ="
    else:
        change = "[evaluation]", f"[{table}]\n{option}\n[evaluation]"
    path = study(change)
    assert fails(2, "train", path).startswith(f"mine.toml: {table}.{option.split(' = ')[0]}{says}")
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.toml"]


def test_no_default_of_an_option_is_of_a_wrong_type():
    from inspect import signature

    from semiclip._cli import _free_tables as tables

    takers = [*tables.ENCODERS.values(), tables.SemiClip, tables.DistillationPlan, tables.SemiClip.train]
    defaults = {
        (taker.__name__, name): (taker, parameter.default)
        for taker in [*takers, tables.distill, tables.Trainer, tables.LightningTrainer]
        for name, parameter in signature(taker).parameters.items()
        if isinstance(parameter.default, bool | int | float | str | tuple)
    }
    assert len(defaults) > 60
    for (_, name), (taker, default) in defaults.items():
        value = [*default] if isinstance(default, tuple) else default
        assert tables.fits(value, tables.read_kind(taker, name)), (taker, name)


def read_record(out: Path) -> dict[str, object]:
    """Return what stands beside a result, of the versions only that of this package."""
    record = tomllib.loads(out.with_name(f"{out.name}.settings.toml").read_text(encoding="utf-8"))
    assert record.pop("versions")["semiclip"] == version("semiclip")
    return record


def test_a_result_in_one_file_has_its_settings_beside_it(folder, tmp_path, fails):
    data, study = str(folder / "embedded.h5ad"), str(folder / "study.toml")
    out, again = tmp_path / "recall.csv", tmp_path / "again.csv"
    assert main(["evaluate", data, "--study", study, "--out", str(out), "--seed", "6"]) == 0
    columns = {"pair_on": ["perturbation", "dose"], "perturbation": "perturbation", "control": ["control"]}
    columns |= {"batch": "batch"}
    evaluation = {"rep": ["X_pca", "X_semiclip"], "modality": "rna", "permutations": 100, "seed": 6}
    evaluation |= {"relationships": str(folder / "relationships.csv")}
    expected = {"command": {"name": "evaluate", "data": data}, "columns": columns, "evaluation": evaluation}
    assert read_record(out) == expected
    # which are a study again
    record = f"{out}.settings.toml"
    assert main(["evaluate", data, "--study", record, "--out", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()

    page = tmp_path / "page.html"
    assert main(["report", data, "--study", record, "--out", str(page), "--permutations", "200"]) == 0
    evaluation["permutations"] = 200
    assert read_record(page) == {**expected, "command": {"name": "report", "data": data}}


def test_embedded_samples_say_how_the_model_was_trained(folder, tmp_path):
    trained = tomllib.loads((folder / "results" / "settings.toml").read_text(encoding="utf-8"))
    del trained["versions"]
    knockouts, out = str(folder / "knockouts.h5ad"), tmp_path / "new.h5ad"
    command = {"name": "embed", "model": str(folder / "results" / "model"), "data": knockouts}
    assert read_record(folder / "embedded.h5ad") == {"command": command, **trained}
    flags = ["--key-added", "X_new", "--batch", ""]
    assert main(["embed", str(folder / "results"), knockouts, "--out", str(out), *flags]) == 0
    assert read_record(out)["command"] == {**command, "key_added": "X_new", "batch_key": ""}


@pytest.mark.parametrize("command", ["embed", "evaluate", "report"])
def test_settings_are_replaced_with_their_result_or_not_at_all(folder, tmp_path, fails, monkeypatch, command):
    suffix = {"embed": ".h5ad", "evaluate": ".csv", "report": ".html"}[command]
    out = tmp_path / f"out{suffix}"
    record = tmp_path / f"out{suffix}.settings.toml"
    arguments = [command, folder / "embedded.h5ad", "--out", out]
    if command == "embed":
        arguments[1:1] = [folder / "results"]
    else:
        arguments += ["--study", folder / "study.toml", "--permutations", "200", "--rep", "X_pca"]
    record.write_text("mine", encoding="utf-8")
    if command != "embed":
        assert main([*map(str, arguments), "--overwrite", "--rep", "X_scvi"]) == 1
    assert record.read_text(encoding="utf-8") == "mine", "a mistake changes nothing"
    assert f"{record} (--out) exists; pass --overwrite" in fails(1, *arguments)
    assert record.read_text(encoding="utf-8") == "mine"
    with monkeypatch.context() as patch:  # a process that dies between them
        patch.delattr("semiclip._cli._work.write_record")
        with pytest.raises(NameError):
            main([*map(str, arguments), "--overwrite"])
    assert [*tmp_path.iterdir()] == [out], "the settings of another result are gone first"
    assert main([*map(str, arguments), "--overwrite"]) == 0
    assert read_record(out)["command"]["name"] == command
    assert "exists; pass --overwrite" in fails(1, *arguments)
    arguments[arguments.index(out)] = folder
    assert fails(1, *arguments, "--overwrite") == f"{folder} (--out) exists; it is a folder: name a file"


def test_mistakes_elsewhere_are_one_line_too(folder, study, fails, tmp_path):
    path = study()
    (tmp_path / "text.h5ad").write_text("no HDF5", encoding="utf-8")
    image = anndata.read_h5ad(folder / "image.h5ad")
    image.obs["dose"] += 0.5
    image.write_h5ad(tmp_path / "image.h5ad")
    rna, data = ["--rna", folder / "rna.h5ad"], folder / "embedded.h5ad"
    says = fails(1, "train", path, *rna, "--image", tmp_path / "text.h5ad")
    assert re.search(r"text.h5ad \(--image\) cannot be read: .*write_h5ad", says)
    says = fails(1, "train", path, *rna, "--image", tmp_path / "image.h5ad")
    assert says.startswith("mine.toml: columns.pair_on: no key on perturbation, dose is shared")
    assert "--out" in fails(1, "train", path, "--out", folder / "results")
    assert "text.h5ad" in fails(1, "train", path, "--out", tmp_path / "text.h5ad" / "results")  # before it trains
    assert "data.image is not given; set it in a TOML file or by --image" in fails(2, "train", path, *rna)
    assert "'--seed': 'x' is not a valid integer" in fails(2, "train", path, "--seed", "x")
    assert fails(2, "train", path, "--seed", "-1").startswith("--seed=-1 must be")
    assert "'whole'" in fails(2, "train", path, "--recipe", "hole")
    assert "No such option '--sed'" in fails(2, "train", path, "--sed", "1").replace(": --sed", " '--sed'")
    assert "there is no gone.toml; semiclip init" in fails(1, "train", "gone.toml")
    assert "No such command 'trian'" in fails(2, "trian")
    assert "(MODEL)" in fails(1, "embed", tmp_path / "gone", data, "--out", tmp_path / "new.h5ad")
    assert "(DATA)" in fails(1, "embed", folder / "results", "gone.h5ad", "--out", tmp_path / "new.h5ad")
    assert "(--out) exists; pass --overwrite" in fails(1, "embed", folder / "results", data, "--out", data)
    says = fails(1, "embed", folder / "results", data, "--out", tmp_path / "new.h5ad", "--batch", "plate")
    assert says.startswith("--batch: batch_key='plate' is not a column of obs")
    evaluate = ["evaluate", data, "--study", path, "--out", tmp_path / "new.csv"]
    assert fails(1, *evaluate, "--rep", "X_scvi").startswith("--rep: use_rep='X_scvi' is not in obsm")
    assert "(--relationships)" in fails(1, *evaluate, "--relationships", "gone.csv")
    says = fails(1, "evaluate", folder / "knockouts.h5mu", *evaluate[2:], "--modality", "protein")
    assert says.startswith("--modality='protein' is not in the MuData, which has rna, image")
    assert fails(2, *evaluate, "--modality", "rna").startswith("--modality would have no effect on embedded.h5ad")
    assert fails(1, "train", study(("[teacher]", '[teacher]\nmodality = "img"'))).startswith(
        "mine.toml: teacher.modality="
    )
    says = fails(2, "embed", folder / "results", folder / "knockouts.h5mu", "--out", tmp_path / "new.h5ad")
    assert "the result is an .h5mu file too" in says
    report = ["report", data, "--study", path, "--out", tmp_path / "new.html"]
    assert fails(2, *report, "--permutations", "9").startswith("--permutations: n_permutations=9 must be")
    assert "--gene-sets" in fails(1, *report, "--gene-sets", "gone.gmt")
    assert not [*tmp_path.glob("new.*")]


def test_data_without_controls_or_usual_names(folder, tmp_path):
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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Usage: semiclip {command} [OPTIONS]")
    assert "Show this message" in printed


def test_the_module_is_the_command(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {command} " in listed for command in COMMANDS)
    ran = subprocess.run([sys.executable, "-m", "semiclip", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == version("semiclip")
    failed = subprocess.run([sys.executable, "-m", "semiclip", "check", "gone.toml"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "error: there is no gone.toml; semiclip init writes a template"
    assert "Traceback" not in failed.stderr
