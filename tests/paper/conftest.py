"""A small study of every part of the paper, and what runs the command on it."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from semiclip.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


@pytest.fixture(scope="session")
def text() -> str:
    """The study, as TOML."""
    return STUDY


@pytest.fixture(scope="session")
def sizes() -> dict[str, int]:
    """Options of the simulation that the study asks for."""
    return tomllib.loads(STUDY)["data"]["options"]


@pytest.fixture(scope="session")
def run() -> Callable[..., int]:
    """Run the command in one process; return its status."""
    return lambda *arguments: main(["paper", *map(str, arguments), "--jobs", "1"])


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def read_files() -> Callable[[Path], dict[str, bytes]]:
    """Read all that is in a folder."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
