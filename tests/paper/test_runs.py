"""Runs are shared by what they are, whatever their order and wherever they were killed, and kept apart from others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from semiclip._cli._paper._parts import PARTS
from semiclip._cli._paper._plan import Run, read_plan
from semiclip._cli._toml import read_settings
from semiclip.correction import LADDER


def test_a_folder_of_others_is_left_alone(study, capsys, run):
    folder = study.with_name("results")
    folder.mkdir()
    (folder / "thesis.tex").write_text("", encoding="utf-8")
    assert run(study, "--only", "table1") == 1
    assert "pass --overwrite" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_results_that_do_not_go_together_are_kept_apart(study, capsys, run):
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


def test_runs_are_shared_by_what_they_are(study):
    plan = read_plan(read_settings(study, {}), quick=False)
    wanted = {name: set(PARTS[name].list_runs(plan)) for name in PARTS}
    assert wanted["table3"] == wanted["figure4"] == wanted["figure5"] <= wanted["table1"]
    assert wanted["figure6"] == wanted["figure7"] == {Run(0, "semiclip")} <= wanted["table2"]
    assert {run.rung for run in wanted["table2"]} == set(LADDER)
    assert len({plan.digest(run) for runs in wanted.values() for run in runs}) == len(set().union(*wanted.values()))


def test_what_is_drawn_from_results_changes_no_result(study, text):
    settings = read_settings(study, {})
    plan = read_plan(settings, quick=False)
    gene_sets = study.with_name("sets.gmt")
    gene_sets.write_text("a\tb\tgene_00\tgene_01\n", encoding="utf-8")
    changed = text.replace("permutations = 20", 'permutations = 20\ngene_sets = "sets.gmt"')
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


@pytest.mark.slow
def test_what_is_killed_goes_on_to_the_same_files(study, run, text, read_files):
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
    again.write_text(text.replace('folder = "results"', 'folder = "whole"'), encoding="utf-8")
    assert run(again, "--only", "table1", "figure4") == 0
    went_on, whole = read_files(folder), read_files(study.with_name("whole"))
    assert {name for name in went_on if not name.endswith(".partial")} == set(whole)
    whole.pop("settings.toml")
    assert {name: went_on[name] for name in whole} == whole


@pytest.mark.slow
def test_runs_do_not_depend_on_their_order(study, run, text, read_files):
    text = text.replace('["mlp from scratch", "pca frozen"]', '["pca frozen", "pca fine-tuned"]')
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
