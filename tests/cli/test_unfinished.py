"""The command line where it is interrupted: a training goes on, and nothing half-written is taken for a result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import mudata
import pytest

import semiclip as scl
from semiclip.__main__ import main
from semiclip._cli import _unfinished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STUDY = """
data.file = "study.h5mu"
student = {encoder = "pca", options = {n_components = 6}}
teacher.rep = "X_image"
training.options = {accelerator = "cpu", batch_size = 64}
output.folder = "results"
"""
CONTROLS = '[columns]\npair_on = ["perturbation", "dose"]\nperturbation = "perturbation"\n'
WITH, WITHOUT = (f"{CONTROLS}control = {labels}\nbatch = 'batch'\n" for labels in ('"control"', "[]"))
VARYING = {"_scvi_uuid", "run_name_", "sha256"}  # an identifier, the time, and the checksum of both


class Killed(BaseException):
    """Stands for a process that dies, which cleans nothing up."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, shared_study) -> Path:
    """A folder with the data of a study whose sides share directions."""
    folder, mdata = tmp_path_factory.mktemp("unfinished"), shared_study.mdata.copy()
    del mdata["rna"].obsm["X_pca"]
    with mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext():
        mdata.write(folder / "study.h5mu")
    return folder


@pytest.fixture
def study(files: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a study, with some text replaced, to a folder of its own."""

    def write(*changes: tuple[str, str], columns: str = WITH) -> Path:
        text = STUDY.replace("study.h5mu", (files / "study.h5mu").as_posix())
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "study.toml").write_text(text + columns, encoding="utf-8")
        return tmp_path / "study.toml"

    return write


@pytest.fixture
def train(tmp_path: Path, monkeypatch) -> Callable[..., dict[str, Any]]:
    """Train, dying after so many epochs if told, and return what the result folder holds."""

    def run(study: Path, name: str, *flags: str, dies_after: int | None = None) -> dict[str, Any]:
        save = _unfinished.SaveProgress.on_train_epoch_end

        def save_and_die(self: Any, trainer: Any, pl_module: Any) -> None:
            save(self, trainer, pl_module)
            if trainer.current_epoch + 1 == dies_after:
                raise Killed

        arguments = ["train", str(study), "--out", str(tmp_path / name), *flags]
        with monkeypatch.context() as patch:
            patch.setattr(_unfinished.SaveProgress, "on_train_epoch_end", save_and_die)
            if dies_after is None:
                assert main(arguments) == 0
                return read_result(tmp_path / name)
            with pytest.raises(Killed):
                main(arguments)
        return {}

    return run


def read_result(folder: Path) -> dict[str, Any]:
    """Return the contents of all files, without what differs between any two trainings."""
    contents: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.name == "model.json":
            contents[path.name] = json.loads(path.read_bytes(), object_hook=drop_varying)
        elif path.name == "settings.toml":
            contents[path.name] = tomllib.loads(path.read_text(encoding="utf-8"))
            del contents[path.name]["output"]
        elif path.is_file():
            contents[path.name] = path.read_bytes()
    return contents


def drop_varying(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of JSON without what differs between any two trainings."""
    return {name: value for name, value in entry.items() if name not in VARYING}


RECIPES = {
    "shared": ("shared", WITH, ""),
    "weighed after training": ("shared", WITHOUT, ""),
    "whole": ("whole", WITH, ""),
    "paper": ("paper", WITHOUT, ""),
    "best epoch": ("whole", WITH, 'select = "best", early_stopping = true, monitor = "validation_loss", '),
    "dropout": ("whole", WITH, ""),
}


@pytest.mark.parametrize(("recipe", "columns", "options"), RECIPES.values(), ids=RECIPES)
def test_an_interrupted_training_ends_with_the_same_files(request, study, train, capsys, recipe, columns, options):
    changes = [
        ("training.options = {", f'training.recipe = "{recipe}"\ntraining.epochs = 3\ntraining.options = {{{options}')
    ]
    if "dropout" in request.node.name:  # which draws from torch's generator
        network = "{n_input = 6, n_hidden = [8], n_output = 6, batch_norm = true, dropout = 0.5}"
        changes[0] = changes[0][0], f"training.model.encoder = {network}\n{changes[0][1]}"
    path = study(*changes, columns=columns)
    whole = train(path, "whole")
    assert {"encoder.json", "model.json", "settings.toml"} < {*whole}
    attributes = whole["model.json"]["contents"]["attributes"]
    assert attributes["train_params_"]["epochs"] == 3
    assert len(attributes["history_"]["train_loss"]["value"]["values"][0]["value"]) == 3
    assert train(path.parent / "whole" / "settings.toml", "repeated") == whole, "the settings are a study again"
    weight = attributes["train_params_"]["distilled_weight"]
    assert 0 < weight < 1 if columns is WITHOUT and recipe == "shared" else weight == 1
    for epoch in (1, 3):  # after the last one nothing is left to train
        train(path, f"again{epoch}", dies_after=epoch)
        capsys.readouterr()
        assert train(path, f"again{epoch}") == whole
        assert f"training goes on after epoch {epoch}\n" in capsys.readouterr().out
        assert not (path.parent / f"again{epoch}.unfinished").exists()


def test_an_encoder_is_fitted_once(study, train, monkeypatch):
    path = study(("training.options", "training.epochs = 2\ntraining.options"))
    train(path, "again", dies_after=1)
    monkeypatch.setattr(scl.encoders.PCAEncoder, "fit", None)
    train(path, "again")


def test_other_settings_data_or_damage_begin_anew(study, train, files, capsys):
    path, changed = study(("training.options", "training.epochs = 2\ntraining.options")), "training begins anew"
    whole = train(path, "whole", "--seed", "1")
    train(path, "again", dies_after=1)
    assert train(path, "again", "--seed", "1") == whole
    assert changed in capsys.readouterr().out
    train(path, "again", "--seed", "1", "--overwrite", dies_after=1)
    assert read_result(path.parent / "again") == whole, "the old result stays until the new one is whole"
    (path.parent / "again.unfinished" / "last.ckpt").write_bytes(b"no checkpoint")
    assert train(path, "again", "--seed", "1", "--overwrite") == whole
    assert changed in capsys.readouterr().out

    mine = path.parent / "other.h5mu"
    mine.write_bytes((files / "study.h5mu").read_bytes())
    train(path, "again", "--data", str(mine), "--overwrite", dies_after=1)
    mine.write_bytes(mine.read_bytes() + b" ")  # the same to HDF5
    train(path, "again", "--data", str(mine), "--overwrite")
    assert changed in capsys.readouterr().out


def test_a_folder_of_somebody_else_is_left_alone(study, tmp_path, capsys):
    (tmp_path / "results.unfinished").mkdir()
    (tmp_path / "results.unfinished" / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["train", str(study())]) == 1
    assert "results.unfinished exists; remove or rename it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "results.unfinished").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_result_that_is_half_written_is_none(study, train, files, tmp_path, monkeypatch, capsys, overwrite):
    path = study(("training.options", "training.epochs = 1\ntraining.options"))
    flags = ["--overwrite"] if overwrite else []
    whole, embed = train(path, "whole"), ["embed", str(tmp_path / "results"), str(files / "study.h5mu")]
    embed += ["--out", str(tmp_path / "out.h5mu")]
    if overwrite:
        train(path, "results", "--seed", "1")

    def die(*arguments: Any, **options: Any) -> None:
        raise Killed

    for method in ("save", "none"):  # between the encoder and the model, and between the model and the settings
        with monkeypatch.context() as patch, pytest.raises(Killed):
            if method == "save":
                patch.setattr(scl.model.SemiClip, "save", die)
            else:
                patch.setattr("semiclip._cli._work.resolve_training", lambda settings, params: Dies())
            main(["train", str(path), *flags])
        if overwrite:
            assert not (tmp_path / "results" / "settings.toml").exists()
            capsys.readouterr()
            assert main(embed) == 1
            assert "there is no settings.toml in" in capsys.readouterr().err
        else:
            assert not (tmp_path / "results").exists()
    assert train(path, "results", *flags) == whole
    assert main(embed) == 0


class Dies(dict):
    """Settings that cannot be written."""

    def items(self) -> Any:
        raise Killed


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_process_goes_on(study, train, tmp_path):
    path = study(("training.options", "training.epochs = 3\ntraining.options"))
    code = f"""
import os, sys
from semiclip.__main__ import main
from semiclip._cli import _unfinished
save = _unfinished.SaveProgress.on_train_epoch_end
def save_and_die(self, trainer, pl_module):
    save(self, trainer, pl_module)
    if trainer.current_epoch == 1:
        os.kill(os.getpid(), {int(signal.SIGKILL)})
_unfinished.SaveProgress.on_train_epoch_end = save_and_die
main(["train", {str(path)!r}])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == ["results.unfinished"]
    assert train(path, "results") == train(path, "whole")
