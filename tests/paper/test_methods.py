"""Which parts and rows a study has, by its methods and its data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import semiclip as scl
from semiclip._cli._paper._parts import PARTS
from semiclip._cli._paper._plan import BASE, PEA, read_plan
from semiclip._cli._paper._store import run_all
from semiclip._cli._toml import read_settings


def test_methods_of_any_name_and_failures(study, run, text):
    text = text.replace('methods = ["vicreg", "semiclip"]', 'methods = ["shared only", "cca", "wild"]')
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


def test_data_without_controls_have_no_pea(tmp_path, run, text, sizes):
    made = scl.datasets.simulate(rng=0, **sizes)
    treated = [adata[adata.obs["perturbation"] != "control"].copy() for adata in made.mdata.mod.values()]
    for name, adata in zip(("rna", "image"), treated, strict=True):
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    made.knockouts["rna"].write_h5ad(tmp_path / "knockouts.h5ad")
    made.relationships.to_csv(tmp_path / "relationships.csv", index=False)
    text = text[text.index("[columns]") :].replace('control = "control"\nbatch = "batch"', "control = []", 1)
    a, b = text.index("[unseen.knockouts]"), text.index("[paper]")
    unseen = '[unseen.knockouts]\nfile = "knockouts.h5ad"\ncontrol = "control"\nbatch = "batch"\n'
    text = '[data]\nrna = "rna.h5ad"\nimage = "image.h5ad"\n' + text[:a] + unseen + text[b:]
    text = text.replace("[evaluation]\n", '[evaluation]\nrelationships = "relationships.csv"\n')
    text = text.replace("seeds = 2", "seeds = 1")
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    parts = ["table1", "table2", "figure2b", "figure4", "figure6"]
    assert run(tmp_path / "study.toml", "--only", *parts) == 0
    table = pd.read_csv(tmp_path / "results" / "table1.csv")
    assert set(table["name"]) == {"Random baseline", "Unimodal baseline", "VICReg", "Semi-Clipped"}
    page = (tmp_path / "results" / "paper.html").read_text(encoding="utf-8")
    assert "Nothing can be augmented: the training data have no controls." in page
    assert "This unseen set has no images, so the circles are of two sets." in page


def test_baselines_have_no_arm_of_their_own(study, text):
    text = text.replace('methods = ["vicreg", "semiclip"]', 'methods = ["cca", "semiclip"]')
    study.write_text(text.replace("[methods.vicreg]\nmax_epochs = 2\n", ""), encoding="utf-8")
    plan = read_plan(read_settings(study, {}), quick=False)
    for name, rungs in (("table1", {BASE}), ("table2", set()), ("figure4", {BASE})):
        assert {run.rung for run in PARTS[name].list_runs(plan) if run.method == "cca"} == rungs
    assert {run.rung for run in PARTS["table1"].list_runs(plan) if run.method == "semiclip"} == {BASE, PEA}


def test_methods_that_tables_cannot_tell_apart_are_refused(study, capsys, run, text):
    for label, objective in {"VICReg": "vicreg", "VICReg + PEA": "siglip", "transcriptomics": "kd"}.items():
        renamed = text.replace('methods = ["vicreg", "semiclip"]', f'methods = ["vicreg", "{label}"]')
        renamed = renamed.replace("[methods.semiclip]\nmax_epochs = 3\nplan_kwargs = {lr = 0.3}\n", "")
        study.write_text(f'{renamed}[methods."{label}"]\nobjective = "{objective}"\n', encoding="utf-8")
        assert run(study, "--only", "table1") == 2
        assert f"study.toml: methods.{label}=" in capsys.readouterr().err
        assert not study.with_name("results").exists()


@pytest.mark.slow
def test_every_part_has_its_files(study, run):
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
