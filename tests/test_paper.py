"""The tables and figures of the paper by one command: its numbers are those of the library, and it goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import semiclip as scl
from semiclip.__main__ import main
from semiclip._cli._paper._parts import PARTS
from semiclip._cli._paper._plan import BASE, PEA, Run, read_plan
from semiclip._cli._paper._store import run_all
from semiclip._cli._toml import read_settings
from semiclip.correction import LADDER
from semiclip.errors import SemiclipWarning

if TYPE_CHECKING:
    from pathlib import Path

    import anndata

STUDY = """
[data]
dataset = "simulation"
[data.options]
n_compounds = 24
n_knockouts = 24
n_pathways = 6
n_genes = 60
n_batches = 3
n_knockout_batches = 3
n_controls = 12
[columns]
pair_on = ["perturbation", "dose"]
perturbation = "perturbation"
control = "control"
batch = "batch"
[student]
encoder = "pca"
[student.options]
n_components = 8
min_overlap = 0.5
[teacher]
rep = "X_image"
[unseen.knockouts]
image_rep = "X_image"
paper = "HUVEC-KO"
[unseen.l1000]
image_rep = "X_image"
zscores = true
[paper]
methods = ["vicreg", "semiclip"]
compared = ["siglip"]
recipe = "whole"
seeds = 2
augmentations = ["mwo", "scgft"]
choices = ["mlp from scratch", "pca fine-tuned", "pca frozen"]
[sweep]
lr = [0.01, 0.1]
temperature = [0.1, 0.5]
[methods.semiclip]
max_epochs = 3
plan_kwargs = {lr = 0.3}
[methods.vicreg]
max_epochs = 2
[methods.siglip]
max_epochs = 2
[evaluation]
permutations = 20
[evaluation.preservation]
max_epochs = 2
device = "cpu"
[output]
folder = "results"
"""
COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
PAIRING = {"pair_on": ["perturbation", "dose"], **COLUMNS, "student_rep": "X_pca", "teacher_rep": "X_image"}
SIZES = tomllib.loads(STUDY)["data"]["options"]


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return main(["paper", *map(str, arguments), "--jobs", "1"])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Some tables and figures of a small study."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    assert run(folder / "study.toml", "--only", "table1", "table2", "figure4", "figure5", "figure7") == 0
    return folder / "results"


def distil(seed: int, rung: str) -> tuple[scl.datasets.Study, anndata.AnnData]:
    """Do by hand what a run of Semi-Clipped does; return the study and its embedded knockouts."""
    study = scl.datasets.simulate(rng=seed, **SIZES)
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8, min_overlap=0.5, rng=seed)
    model = scl.tl.semiclip(
        study.mdata, **PAIRING, recipe="whole", max_epochs=3, plan_kwargs={"lr": 0.3}, rng=seed,
        pea=LADDER[rung]["pea"], model_kwargs={"student_correction": LADDER[rung]["student_correction"]},
        enable_progress_bar=False,
    )  # fmt: skip
    knockouts = study.knockouts["rna"]
    scl.pp.encode(knockouts, encoder=encoder)
    scl.tl.embed(knockouts, model)
    return study, knockouts


def recall_of(study: scl.datasets.Study, knockouts: anndata.AnnData) -> float:
    arguments = {**COLUMNS, "relationships": study.relationships, "n_permutations": 0}
    table = scl.tl.recall(knockouts, use_rep="X_semiclip", **arguments)
    return 100 * float(table.loc[table["key"] == "mean", "value"].iloc[0])


def test_tables_hold_the_numbers_of_the_library(made):
    recalls: dict[str, list[float]] = {BASE: [], PEA: []}
    preserved = []
    for seed in (0, 1):
        for rung in (BASE, PEA):
            study, knockouts = distil(seed, rung)
            recalls[rung].append(recall_of(study, knockouts))
        options = {"max_epochs": 2, "device": "cpu", "baselines": (), "rng": seed, "progress_bar": False}
        table = scl.tl.preservation(knockouts, use_rep="X_semiclip", **COLUMNS, **options)
        chosen = (table["metric"] == "preservation") & (table["key"] == "unseen perturbations")
        preserved.append(float(table.loc[chosen, "value"].iloc[0]))
    table1 = pd.read_csv(made / "table1.csv").set_index(["name", "dataset", "metric"])
    rows = {"Semi-Clipped": BASE, "Semi-Clipped + PEA": PEA}
    for name, rung in rows.items():
        row = table1.loc[(name, "knockouts", "recall")]
        assert row["mean"] == pytest.approx(np.mean(recalls[rung]), abs=1e-12)
        assert row["sd"] == pytest.approx(np.std(recalls[rung], ddof=1), abs=1e-12)
    row = table1.loc[("Semi-Clipped + PEA", "knockouts", "preservation")]
    assert row["mean"] == pytest.approx(np.mean(preserved), abs=1e-10)
    row = table1.loc[("Semi-Clipped + PEA", "knockouts", "recall")]
    assert row["difference"] == pytest.approx(np.mean(recalls[PEA]) - np.mean(recalls[BASE]), abs=1e-12)
    assert row["p_min"] == 0.5
    table2 = pd.read_csv(made / "table2.csv").set_index(["method", "rung"])
    assert [name.lstrip("'") for name in table2.loc["Semi-Clipped"].index] == list(LADDER)
    for rung, name in {BASE: BASE, PEA: f"'{PEA}"}.items():  # an apostrophe keeps a spreadsheet from computing
        assert table2.loc[("Semi-Clipped", name), "mean"] == pytest.approx(np.mean(recalls[rung]), abs=1e-12)
    printed = f"{np.mean(recalls[PEA]):.2f} ± {np.std(recalls[PEA], ddof=1):.2f}"
    assert printed in (made / "table2.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_medium_study_holds_the_numbers_of_the_library(tmp_path):
    """The ready study, of one method and seed, against calls by hand on all three unseen sets."""
    path = tmp_path / "medium.toml"
    assert main(["init", str(path), "--study", "medium"]) == 0
    text = path.read_text(encoding="utf-8")
    changes = {'["kd", "shake", "vicreg", "semiclip"]': '["semiclip"]', '["clip", "siglip", "dcca", "c2kd"]': "[]"}
    for old, new in {**changes, "seeds = 15": "seeds = 1"}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    assert run(path, "--quick", "--only", "table1") == 0

    study = scl.datasets.simulate(difficulty="medium", rng=0)
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64, min_overlap=0.5, rng=0)
    model = scl.tl.semiclip(
        study.mdata, **PAIRING, recipe="whole", max_epochs=5, rng=0, pea=True,
        model_kwargs={"student_correction": "tvn"}, enable_progress_bar=False,
    )  # fmt: skip
    knockouts = study.knockouts["rna"]
    unseen = {
        "knockouts": knockouts,
        "l1000": scl.datasets.shift_assay(knockouts, assay="l1000", batch_key="batch", rng=0),
        "single_cell": scl.datasets.shift_assay(knockouts, assay="single_cell", rng=0),
    }
    table = pd.read_csv(tmp_path / "medium" / "table1.csv").set_index(["name", "dataset", "metric"])
    for name, adata in unseen.items():
        is_l1000 = name == "l1000"
        with pytest.warns(SemiclipWarning, match="240 of the 600 genes") if is_l1000 else nullcontext():
            scl.pp.encode(adata, encoder=encoder, **({"zscores": True} if is_l1000 else {}))
        scl.tl.embed(adata, model)
        expected = recall_of(study, adata)
        assert table.loc[("Semi-Clipped + PEA", name, "recall"), "mean"] == pytest.approx(expected, abs=1e-9)


def test_figures_hold_the_sets_of_the_library(made):
    study, knockouts = distil(0, PEA)
    arguments = {**COLUMNS, "relationships": study.relationships}
    images = {"X_image": study.knockouts["image"]}
    sets = scl.tl.relationship_sets(knockouts, use_rep=["X_pca", "X_semiclip"], references=images, **arguments)
    overlap = scl.tl.overlap(sets, representations=["X_semiclip", "X_pca", "X_image"])
    figure4 = pd.read_csv(made / "figure4.csv")
    figure4 = figure4[figure4["method"] == "Semi-Clipped"]
    assert figure4["n_pairs"].tolist() == overlap["n_pairs"].tolist()
    gains = scl.tl.gains_losses(sets, base="X_pca", representations="X_semiclip").iloc[0]
    figure5 = pd.read_csv(made / "figure5.csv").set_index(["representation", "base"])
    for name in ("preserved", "gains", "losses", "total", "base_total"):
        assert figure5.loc[("Semi-Clipped", "transcriptomics"), name] == gains[name]
    study, knockouts = distil(0, BASE)
    null = scl.tl.null_overlap(
        knockouts, use_rep="X_semiclip", **arguments, references={"X_image": study.knockouts["image"]},
        n_permutations=20, rng=0, progress_bar=False,
    )  # fmt: skip
    figure7 = pd.read_csv(made / "figure7.csv")
    figure7 = figure7[figure7["reference"] == "microscopy"]
    for name in ("threshold_low", "overlap", "null_mean", "p_value"):
        np.testing.assert_allclose(figure7[name], null[name], rtol=1e-12)


@pytest.mark.slow
def test_every_part_has_its_files(study):
    assert run(study) == 0
    made = study.with_name("results")
    files = {path.name for path in made.iterdir()}
    drawn = {f"figure{name}" for name in ("1", "2a", "2b", "3", "4", "5", "6", "7")}
    expected = {f"{name}.csv" for name in PARTS} | {f"{name}.png" for name in drawn}
    expected |= {f"{name}.{kind}" for name in ("table1", "table2", "table3", "figure5") for kind in ("md", "tex")}
    assert files == expected | {"paper.html", "runs.csv", "settings.toml", "runs", "views"}
    page = (made / "paper.html").read_text(encoding="utf-8")
    for name in PARTS:
        assert f'<section id="{name}"' in page
    assert page.count("<img ") == len(drawn)
    assert "16.51 ± 0.85" in page  # the paper's own unimodal baseline
    runs = pd.read_csv(made / "runs.csv")
    # two seeds: baselines; VICReg and Semi-Clipped on five rungs; SigLIP; three encoders with one or two adapters;
    # views alone, together, and together under PEA; four settings
    assert runs["run"].nunique() == 2 * (2 + 10 + 1 + 6 + 4 + 4) == len(list((made / "runs").iterdir()))


@pytest.mark.slow
def test_figure_2a_names_the_methods_beside_several_sets(study):
    plan = read_plan(read_settings(study, {}), quick=True)
    part = PARTS["figure2a"]
    wanted = {run: sorted(measures) for run, measures in part.list_runs(plan).items()}
    figure = Figure(layout="constrained")
    part.make(plan, run_all(plan, wanted, study.with_name("results"), 1)).draw(figure)
    figure.draw_without_rendering()
    labels = [[label.get_text() for label in ax.get_yticklabels() if label.get_visible()] for ax in figure.axes]
    assert labels[0] == ["Unimodal baseline", "SigLIP", "VICReg", "Semi-Clipped"]
    assert len(labels) == 2


def test_a_second_call_makes_nothing_and_writes_the_same(study, capsys):
    folder = study.with_name("results")
    assert run(study, "--only", "table1", "figure5") == 0
    before = read_files(folder)
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    assert run(study, "--only", "table1", "--only", "figure5") == 0
    assert read_files(folder) == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == stamps
    assert capsys.readouterr().out.splitlines()[-1] == f"written to {folder}: paper.html, runs.csv, table1, figure5"


def test_a_change_makes_only_what_it_touches(study):
    folder = study.with_name("results")
    assert run(study, "--only", "table1") == 0
    before = {path.name for path in (folder / "runs").iterdir()}
    study.write_text(STUDY.replace("[methods.vicreg]\nmax_epochs = 2", "[methods.vicreg]\nmax_epochs = 1"), "utf-8")
    assert run(study, "--only", "table1") == 0
    added = {path.name for path in (folder / "runs").iterdir()} - before
    assert {name.rsplit("-", 1)[0] for name in added} == {
        f"vicreg_{rung}seed_{seed}" for rung in ("", "control_sampling_") for seed in (0, 1)
    }


@pytest.mark.slow
def test_what_is_killed_goes_on_to_the_same_files(study):
    """Kill -9 after the first runs, then the same call again."""
    command = [sys.executable, "-m", "semiclip", "paper", str(study), "--jobs", "2", "--only", "table1", "figure4"]
    environment = {**os.environ, "MPLBACKEND": "agg"}
    folder = study.with_name("results")
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    runs = folder / "runs"
    while process.poll() is None and (not runs.is_dir() or len(list(runs.glob("*.json"))) < 3):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    n_before = len(list(runs.glob("*.json")))
    assert n_before < 12
    assert run(study, "--only", "table1", "figure4") == 0
    again = study.with_name("again.toml")
    again.write_text(STUDY.replace('folder = "results"', 'folder = "whole"'), encoding="utf-8")
    assert run(again, "--only", "table1", "figure4") == 0
    went_on, whole = read_files(folder), read_files(study.with_name("whole"))
    assert {name for name in went_on if not name.endswith(".partial")} == set(whole)
    whole.pop("settings.toml")
    assert {name: went_on[name] for name in whole} == whole


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_methods_of_any_name_and_failures(study):
    text = STUDY.replace('methods = ["vicreg", "semiclip"]', 'methods = ["shared only", "cca", "wild"]')
    text = text.replace("[methods.semiclip]", "[methods.unused]").replace("seeds = 2", "seeds = 1")
    text = (
        text.split("[methods.unused]")[0]
        + """
[methods."shared only"]
objective = "semiclip"
recipe = "shared"
max_epochs = 1
[methods.wild]
objective = "semiclip"
max_epochs = 5
plan_kwargs = {lr = 1e12}
[methods.siglip]
max_epochs = 1
"""
        + text[text.index("[evaluation]") :]
    )
    study.write_text(text, encoding="utf-8")
    assert run(study, "--only", "table1") == 0
    table = pd.read_csv(study.with_name("results") / "table1.csv")
    names = ["Random baseline", "Unimodal baseline", "shared only", "shared only + PEA", "CCA", "wild", "wild + PEA"]
    assert list(dict.fromkeys(table["name"])) == names
    wild = table["name"].str.startswith("wild")
    assert (table["n_seeds"] == np.where(wild, 0, 1)).all()
    assert (table["mean"].isna() == wild).all()
    for kind in ("md", "tex"):
        assert "wild: 1 seed(s) diverged" in study.with_name("results").joinpath(f"table1.{kind}").read_text("utf-8")
    page = (study.with_name("results") / "paper.html").read_text(encoding="utf-8")
    assert "wild: 1 seed(s) diverged" in page


def test_data_without_controls_have_no_pea(tmp_path):
    made = scl.datasets.simulate(rng=0, **SIZES)
    treated = [adata[adata.obs["perturbation"] != "control"].copy() for adata in made.mdata.mod.values()]
    for name, adata in zip(("rna", "image"), treated, strict=True):
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    made.knockouts["rna"].write_h5ad(tmp_path / "knockouts.h5ad")
    made.relationships.to_csv(tmp_path / "relationships.csv", index=False)
    text = STUDY[STUDY.index("[columns]") :].replace('control = "control"\nbatch = "batch"', "control = []", 1)
    a, b = text.index("[unseen.knockouts]"), text.index("[paper]")
    unseen = '[unseen.knockouts]\nfile = "knockouts.h5ad"\ncontrol = "control"\nbatch = "batch"\n'
    text = '[data]\nrna = "rna.h5ad"\nimage = "image.h5ad"\n' + text[:a] + unseen + text[b:]
    text = text.replace("[evaluation]\n", '[evaluation]\nrelationships = "relationships.csv"\n')
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    parts = ["table1", "table2", "figure2b", "figure4", "figure6"]
    assert run(tmp_path / "study.toml", "--only", *parts) == 0
    table = pd.read_csv(tmp_path / "results" / "table1.csv")
    assert set(table["name"]) == {"Random baseline", "Unimodal baseline", "VICReg", "Semi-Clipped"}
    page = (tmp_path / "results" / "paper.html").read_text(encoding="utf-8")
    assert "Nothing can be augmented: the training data have no controls." in page
    assert "This unseen set has no images, so the circles are of two sets." in page


MISTAKES = {
    "a text in the sweep": ("lr = [0.01, 0.1]", 'lr = ["slow", 0.1]', "sweep.lr"),
    "an empty sweep": ("temperature = [0.1, 0.5]", "temperature = []", "sweep.temperature"),
    "part of a row in the sweep": ("temperature = [0.1, 0.5]", "batch_size = [64.5]", "sweep.batch_size"),
    "an option of the encoder": ("min_overlap = 0.5", "overlap = 0.5", "student.options"),
    "a value of the encoder": ("n_components = 8", 'n_components = "8"', "student.options.n_components"),
    "an option of an encoder of Figure 1": (
        "[methods.siglip]",
        "[encoders.mlp]\nwidth = 3\n[methods.siglip]",
        "encoders.mlp",
    ),
    "an encoder that needs a file": ('"pca frozen"]', '"scgpt frozen"]', "encoders.scgpt"),
    "an option of an augmentation": (
        "[methods.siglip]",
        "[augmentations.mwo]\nn = 3\n[methods.siglip]",
        "augmentations.mwo",
    ),
    "an option of a choice": (
        "[methods.siglip]",
        '[choices."mlp from scratch"]\nepochs = 3\n[methods.siglip]',
        "choices.mlp from scratch",
    ),
    "an argument of the plan": ("{lr = 0.3}", "{rate = 0.3}", "methods.semiclip.plan_kwargs"),
    "a rate that is a text": ("{lr = 0.3}", '{lr = "0.3"}', "methods.semiclip.plan_kwargs.lr"),
    "epochs that are a text": ("max_epochs = 3", 'max_epochs = "3"', "methods.semiclip.max_epochs"),
    "an argument of the model": (
        "plan_kwargs = {lr = 0.3}",
        "model_kwargs = {n_hiden = 3}",
        "methods.semiclip.model_kwargs",
    ),
    "what the command says of preservation": ('device = "cpu"', 'use_rep = "X"', "evaluation.preservation"),
    "a device": ('device = "cpu"', 'device = "abacus"', "evaluation.preservation.device"),
    "a data set of the paper": ('paper = "HUVEC-KO"', 'paper = "HUVEC"', "unseen.knockouts.paper"),
    "images without a file of expression": ("zscores = true", 'image = "study.toml"', "unseen.l1000.image"),
    "z-scores that are counts": (
        'image_rep = "X_image"\npaper',
        'image_rep = "X_image"\nzscores = true\npaper',
        "unseen.knockouts.zscores",
    ),
    "a baseline that is there anyway": ('["vicreg", "semiclip"]', '["unimodal", "semiclip"]', "paper.methods"),
    "an unknown method": ('methods = ["vicreg", "semiclip"]', 'methods = ["vicreg", "semclip"]', "paper.methods"),
    "arguments of a method that is not there": ("[methods.siglip]", "[methods.sigclip]", "methods.sigclip"),
    "an argument that no training takes": ("[methods.siglip]\nmax_epochs", "[methods.siglip]\nepoch", "methods.siglip"),
    "a database spelt wrong": ("permutations = 20", 'databases = ["Corum"]', "evaluation.databases"),
    "a column that is not there": ('batch = "batch"', 'batch = "plate"', "columns.batch"),
    "a column of an unseen set": (
        "zscores = true",
        'zscores = true\nperturbation = "gene"',
        "unseen.l1000.perturbation",
    ),
    "a label of controls": ('control = "control"', 'control = "DMSO"', "columns.control"),
    "a file that is not there": ("zscores = true", 'file = "lincs.h5ad"', "unseen.l1000.file"),
    "an unseen set that the data set lacks": ("[unseen.l1000]", "[unseen.lincs]", "unseen"),
    "two unseen sets of one name": ("[unseen.l1000]", "[unseen.knockouts]", "study.toml"),
    "an embedding of images": (
        '[unseen.l1000]\nimage_rep = "X_image"',
        '[unseen.l1000]\nimage_rep = "X_dino"',
        "unseen.l1000.image_rep",
    ),
    "a key of an unseen set": ("zscores = true", "zscore = true", "unseen.l1000"),
    "a value of the wrong type": ("seeds = 2", 'seeds = "two"', "paper.seeds"),
    "a parameter of the sweep": ("temperature = [0.1, 0.5]", "tau = [0.1, 0.5]", "sweep.tau"),
    "an augmentation": ('augmentations = ["mwo", "scgft"]', 'augmentations = ["mixup"]', "paper.augmentations"),
    "the main unseen set": ("seeds = 2", 'seeds = 2\nmain = "huvec"', "paper.main"),
    "the unseen set of Figure 6": ("seeds = 2", 'seeds = 2\nnull = "lincs"', "paper.null"),
    "an encoder of Figure 1": ('"pca frozen"]', '"pca melted"]', "paper.choices"),
    "gene sets that are not there": ("permutations = 20", 'gene_sets = "c2.gmt"', "evaluation.gene_sets"),
    "an option of preservation": ("[evaluation.preservation]", "[evaluation.preservation]\nepochs = 3", "preservation"),
    "an option of the data set": ("n_pathways = 6", "pathways = 6", "data.options"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_its_place(mistake, study, capsys):
    old, new, place_of = MISTAKES[mistake]
    assert old in STUDY
    study.write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    assert run(study) in (1, 2)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert place_of in told[0]
    assert "study.toml" in told[0]
    assert not study.with_name("results").exists()


def test_what_fails_in_the_first_run_leaves_nothing(study, capsys):
    study.write_text(STUDY.replace("n_components = 8", "n_components = 800"), encoding="utf-8")
    assert run(study, "--only", "table1") == 2
    assert "study.toml: student.options.n_components: " in capsys.readouterr().err
    assert not study.with_name("results").exists()


def test_what_fails_later_keeps_the_record_of_what_is_there(study, capsys):
    assert run(study, "--only", "figure5") == 0
    folder = study.with_name("results")
    before = read_files(folder)
    study.write_text(
        STUDY.replace("max_epochs = 2\n[methods.siglip]", "max_epochs = 1\nprecision = 3\n[methods.siglip]"), "utf-8"
    )
    assert run(study, "--only", "figure5") in (1, 2)
    study.write_text(STUDY.replace("n_components = 8", "n_components = 800"), encoding="utf-8")
    assert run(study, "--only", "figure5") == 2
    assert read_files(folder) == before


def test_a_folder_of_others_is_left_alone(study, capsys):
    folder = study.with_name("results")
    folder.mkdir()
    (folder / "thesis.tex").write_text("", encoding="utf-8")
    assert run(study, "--only", "table1") == 1
    assert "pass --overwrite" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_results_that_do_not_go_together_are_kept_apart(study, capsys):
    folder = study.with_name("results")
    folder.mkdir()
    versions = f'[versions]\nsemiclip = "{version("semiclip")}"\n'
    (folder / "settings.toml").write_text('[command]\nname = "paper"\nquick = true\n' + versions, encoding="utf-8")
    assert run(study, "--only", "table1") == 1
    assert "made with --quick, exists; pass --overwrite" in capsys.readouterr().err
    (folder / "settings.toml").write_text(
        '[command]\nname = "paper"\n[versions]\nsemiclip = "0.0.1"\n', encoding="utf-8"
    )
    assert run(study, "--only", "table1") == 1
    assert "made with semiclip 0.0.1, exists" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["settings.toml"]


def test_the_template_says_that_unseen_data_are_needed(tmp_path, capsys):
    path = tmp_path / "study.toml"
    assert main(["init", str(path)]) == 0
    assert run(path) in (1, 2)
    told = "error: study.toml: unseen is not given; add a table [unseen.NAME] for each data set to judge on"
    assert capsys.readouterr().err.splitlines() == [told]


def test_an_unknown_part_is_refused(study, capsys):
    assert run(study, "--only", "table4") == 2
    assert "'table4'" in capsys.readouterr().err


def test_runs_are_shared_by_what_they_are(study):
    plan = read_plan(read_settings(study, {}), quick=False)
    wanted = {name: set(PARTS[name].list_runs(plan)) for name in PARTS}
    assert wanted["table3"] == wanted["figure4"] == wanted["figure5"] <= wanted["table1"]
    assert wanted["figure6"] == wanted["figure7"] == {Run(0, "semiclip")} <= wanted["table2"]
    assert {run.rung for run in wanted["table2"]} == set(LADDER)
    assert len({plan.digest(run) for runs in wanted.values() for run in runs}) == len(set().union(*wanted.values()))


@pytest.mark.slow
def test_runs_do_not_depend_on_their_order(study):
    text = STUDY.replace('["mlp from scratch", "pca frozen"]', '["pca frozen", "pca fine-tuned"]')
    study.write_text(text.replace("seeds = 2", "seeds = 1"), encoding="utf-8")
    folder = study.with_name("results")
    assert run(study, "--only", "figure1", "table1") == 0
    one = read_files(folder / "runs")
    # the encoder warns in the first run alone, and all that use its embedding tell of it
    told = {name for name, text in one.items() if b"24 of the 60 genes that the encoder was fitted on" in text}
    assert told == {name for name in one if "pca_frozen" not in name}
    shutil.rmtree(folder)
    assert run(study, "--only", "table1", "figure1") == 0
    assert read_files(folder / "runs") == one


def test_what_is_drawn_from_results_changes_no_result(study):
    settings = read_settings(study, {})
    plan = read_plan(settings, quick=False)
    gene_sets = study.with_name("sets.gmt")
    gene_sets.write_text("a\tb\tgene_00\tgene_01\n", encoding="utf-8")
    changed = STUDY.replace("permutations = 20", 'permutations = 20\ngene_sets = "sets.gmt"')
    changed = changed.replace('paper = "HUVEC-KO"', "").replace("seeds = 2", "seeds = 3")
    study.write_text(changed + "[augmentations.mwo]\nk = 3\n[encoders.mlp]\nn_latent = 5\n", encoding="utf-8")
    other = read_plan(read_settings(study, {}), quick=False)
    trained, augmented, encoded = (
        Run(0, "semiclip"),
        Run(0, "semiclip", views=("mwo",)),
        Run(0, "semiclip", encoder="mlp"),
    )
    assert plan.digest(trained) == other.digest(trained)
    assert plan.digest(augmented) != other.digest(augmented)
    assert plan.digest(encoded) != other.digest(encoded)


def test_baselines_have_no_arm_of_their_own(study):
    text = STUDY.replace('methods = ["vicreg", "semiclip"]', 'methods = ["cca", "semiclip"]')
    study.write_text(text.replace("[methods.vicreg]\nmax_epochs = 2\n", ""), encoding="utf-8")
    plan = read_plan(read_settings(study, {}), quick=False)
    for name, rungs in (("table1", {BASE}), ("table2", set()), ("figure4", {BASE})):
        assert {run.rung for run in PARTS[name].list_runs(plan) if run.method == "cca"} == rungs
    assert {run.rung for run in PARTS["table1"].list_runs(plan) if run.method == "semiclip"} == {BASE, PEA}


def test_methods_that_tables_cannot_tell_apart_are_refused(study, capsys):
    for label, objective in {"VICReg": "vicreg", "VICReg + PEA": "siglip", "transcriptomics": "kd"}.items():
        text = STUDY.replace('methods = ["vicreg", "semiclip"]', f'methods = ["vicreg", "{label}"]')
        text = text.replace("[methods.semiclip]\nmax_epochs = 3\nplan_kwargs = {lr = 0.3}\n", "")
        study.write_text(f'{text}[methods."{label}"]\nobjective = "{objective}"\n', encoding="utf-8")
        assert run(study, "--only", "table1") == 2
        assert f"study.toml: methods.{label}=" in capsys.readouterr().err
        assert not study.with_name("results").exists()


def test_results_are_kept_as_they_were_measured(made):
    path = next(path for path in (made / "runs").iterdir() if path.name.startswith("semiclip_seed_0"))
    kept = json.loads(path.read_bytes())
    assert kept["run"] == "semiclip, seed 0"
    assert kept["settings"]["lr"] == 0.3
    assert set(kept["tables"]) == {"recall", "preservation", "null", "null_sets"}
    settings = tomllib.loads((made / "settings.toml").read_text(encoding="utf-8"))
    assert settings["unseen"]["l1000"] == {"image_rep": "X_image", "zscores": True}
    assert settings["methods"]["semiclip"] == {"max_epochs": 3, "plan_kwargs": {"lr": 0.3}}
    assert settings["versions"]["semiclip"]
