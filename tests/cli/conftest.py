"""A small study with a trained model, in files, and what runs commands on them."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING

import mudata
import pytest

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


@pytest.fixture(scope="session")
def text() -> str:
    """The study, as TOML."""
    return STUDY


@pytest.fixture(scope="session")
def columns() -> dict[str, str]:
    """What the columns of the study mean, in arguments of the library."""
    return {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


@pytest.fixture(scope="session")
def quiet_mudata() -> Callable[[], AbstractContextManager[object]]:
    """Write and read without the warnings of mudata 0.3 about the behaviour of 0.4."""
    return lambda: mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()


@pytest.fixture(scope="session")
def folder(tmp_path_factory, small_study, quiet_mudata) -> Path:
    """A folder with the files of a study, a trained model in ``results`` and ``embedded.h5ad``; tests only read it."""
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
