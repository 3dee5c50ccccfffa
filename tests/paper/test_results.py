"""The numbers of tables and figures are those of the library, and another call makes only what is not there."""

from __future__ import annotations

import json
import shutil
import tomllib
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.__main__ import main
from semiclip._cli._paper._plan import BASE, PEA
from semiclip.correction import LADDER
from semiclip.errors import SemiclipWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import anndata

COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
PAIRING = {"pair_on": ["perturbation", "dose"], **COLUMNS, "student_rep": "X_pca", "teacher_rep": "X_image"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, run, text) -> Path:
    """Some tables and figures of a small study."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "study.toml").write_text(text, encoding="utf-8")
    assert run(folder / "study.toml", "--only", "table1", "table2", "figure4", "figure5", "figure7") == 0
    return folder / "results"


@pytest.fixture
def copied(made, study) -> Path:
    """The same results beside a study of each test's own."""
    return shutil.copytree(made, study.with_name("results"))


@pytest.fixture(scope="module")
def distil(sizes) -> Callable[[int, str], tuple[scl.datasets.Study, anndata.AnnData]]:
    """Do by hand, once, what a run of Semi-Clipped does; return the study and its embedded knockouts."""

    @cache
    def make(seed: int, rung: str) -> tuple[scl.datasets.Study, anndata.AnnData]:
        study = scl.datasets.simulate(rng=seed, **sizes)
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

    return make


def recall_of(study: scl.datasets.Study, knockouts: anndata.AnnData) -> float:
    arguments = {**COLUMNS, "relationships": study.relationships, "n_permutations": 0}
    table = scl.tl.recall(knockouts, use_rep="X_semiclip", **arguments)
    return 100 * float(table.loc[table["key"] == "mean", "value"].iloc[0])


def test_tables_hold_the_numbers_of_the_library(made, distil):
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


def test_figures_hold_the_sets_of_the_library(made, distil):
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


def test_a_second_call_makes_nothing_and_writes_the_same(copied, study, capsys, run, read_files):
    stamps = {path: path.stat().st_mtime_ns for path in (copied / "runs").iterdir()}
    assert run(study, "--only", "table1", "figure5") == 0
    before = read_files(copied)
    assert run(study, "--only", "table1", "--only", "figure5") == 0
    assert read_files(copied) == before
    assert {path: path.stat().st_mtime_ns for path in (copied / "runs").iterdir()} == stamps
    assert capsys.readouterr().out.splitlines()[-1] == f"written to {copied}: paper.html, runs.csv, table1, figure5"


def test_a_change_makes_only_what_it_touches(copied, study, run, text):
    before = {path.name for path in (copied / "runs").iterdir()}
    study.write_text(text.replace("[methods.vicreg]\nmax_epochs = 2", "[methods.vicreg]\nmax_epochs = 1"), "utf-8")
    assert run(study, "--only", "table1") == 0
    added = {path.name for path in (copied / "runs").iterdir()} - before
    assert {name.rsplit("-", 1)[0] for name in added} == {
        f"vicreg_{rung}seed_{seed}" for rung in ("", "control_sampling_") for seed in (0, 1)
    }


def test_what_fails_later_keeps_the_record_of_what_is_there(copied, study, run, text, read_files):
    before = read_files(copied)
    study.write_text(
        text.replace("max_epochs = 2\n[methods.siglip]", "max_epochs = 1\nprecision = 3\n[methods.siglip]"), "utf-8"
    )
    assert run(study, "--only", "figure5") in (1, 2)
    study.write_text(text.replace("n_components = 8", "n_components = 800"), encoding="utf-8")
    assert run(study, "--only", "figure5") == 2
    assert read_files(copied) == before


@pytest.mark.slow
def test_the_medium_study_holds_the_numbers_of_the_library(tmp_path, run):
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
