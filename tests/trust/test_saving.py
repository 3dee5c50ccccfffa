"""Saving loses nothing: at every moment the folder holds the old model or the new one, with its own data."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semiclip import errors
from semiclip.model import SemiClip

same = np.testing.assert_array_equal


def load(folder, **arguments):
    return SemiClip.load(folder, accelerator="cpu", **arguments)


def test_a_new_model_replaces_the_old_one_and_its_data(models, tmp_path):
    first, second, _ = models
    folder = tmp_path / "model"
    first.save(folder, save_anndata=True)
    assert load(folder).adata.n_obs == first.adata.n_obs
    assert len(list(folder.iterdir())) == 3
    second.save(folder, overwrite=True)
    loaded = load(folder)
    assert loaded.adata is None  # the data of the first model are not those of the second
    assert loaded.module.state_dict().keys() == second.module.state_dict().keys()
    assert len(list(folder.iterdir())) == 2


def test_models_share_a_folder_by_their_prefixes(models, tmp_path):
    first, second, _ = models
    first.save(tmp_path, prefix="first_")
    second.save(tmp_path, prefix="second_", overwrite=True)
    first.save(tmp_path, prefix="first_", overwrite=True)
    assert load(tmp_path, prefix="first_").init_params_ == first.init_params_
    assert load(tmp_path, prefix="second_").init_params_ == second.init_params_
    assert len(list(tmp_path.iterdir())) == 4


def test_other_folders_and_files_are_not_touched(models, tmp_path, refuses):
    model = models[0]
    (tmp_path / "notes.txt").write_text("keep")
    for path in (tmp_path, tmp_path / "notes.txt"):
        for overwrite in (True, False):
            with refuses(errors.FileExists, path=path):
                model.save(path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    folder = tmp_path / "model"
    model.save(folder)
    (folder / "notes.txt").write_text("keep")
    with refuses(errors.FileExists, path=folder):
        model.save(folder)
    model.save(folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "keep"


def test_what_scvi_tools_left_is_replaced(models, tmp_path):
    for name in ("model.pt", "mdata.h5mu"):
        (tmp_path / name).write_text("old")
    models[0].save(tmp_path, overwrite=True)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["model.json", "weights"]


@pytest.mark.parametrize("data", [False, True])
def test_a_full_disk_leaves_the_old_model(models, tmp_path, monkeypatch, data):
    first, second, _ = models
    first.save(tmp_path / "model", save_anndata=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in ("fsync", "replace"):
        monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], refuse)
        with pytest.raises(OSError, match="No space"):
            second.save(tmp_path / "model", overwrite=True, save_anndata=data)
        monkeypatch.undo()
        assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


# saves in a child that dies at its n-th file operation, until a child lives; the parent says what each one left
DIE_AT_EVERY_STEP = """
import os, sys
from pathlib import Path
from semiclip._storage import load_folder, save_folder

folder, n = Path(sys.argv[1]), 0

def data(text):
    return "data.h5ad", lambda path: path.write_text(text)

def count_down(owner, name):
    before = getattr(owner, name)
    def operate(*args, **kwargs):
        global left
        if (left := left - 1) < 0:
            os._exit(9)
        return before(*args, **kwargs)
    setattr(owner, name, operate)

save_folder(folder, "model", {"name": "old"}, data=data("old"))
while True:
    if not (child := os.fork()):
        left = n
        for name in ("write_bytes", "write_text", "replace", "unlink"):
            count_down(Path, name)
        count_down(os, "fsync")
        save_folder(folder, "model", {"name": "new"}, overwrite=True, data=data("new"))
        os._exit(0)
    done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    contents, path = load_folder(folder, "model")
    print(contents["name"], path.read_text(), len(list(folder.iterdir())))
    if done:
        break
    if contents["name"] == "new":  # back to the start, as the next save would find it
        save_folder(folder, "model", {"name": "old"}, overwrite=True, data=data("old"))
        assert len(list(folder.iterdir())) == 3, list(folder.iterdir())
    n += 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_dies_at_any_step_leaves_a_whole_model(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", DIE_AT_EVERY_STEP, str(tmp_path / "model")], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    states = [line.split() for line in process.stdout.splitlines()]
    assert len(states) > 9
    # same weights, so that new data may already lie beside the old index; see below for other weights
    assert {name for name, _, _ in states} == {"old", "new"}
    assert states[-1] == ["new", "new", "3"]


# a child saves two models, or two encoders, or two pages, by turns, until it is killed; the parent loads what is there
KILLED = """
import os, random, signal, sys, time, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import semiclip as scl
from semiclip._storage import write_file
from semiclip.model import SemiClip

folder, times = Path(sys.argv[1]), int(sys.argv[2])
random.seed(0)
study = scl.datasets.simulate(n_compounds=24, n_knockouts=24, n_pathways=6, n_genes=60, rng=0)
encoders = [scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=n, rng=0) for n in (7, 8)]
columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
pairs = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
models = []
for width in (300, 400):
    mdata = study.mdata.copy()
    mdata["rna"].obs["width"] = width
    SemiClip.setup_mudata(mdata, **pairs, **columns)
    models.append(SemiClip(mdata, n_hidden=[width]))
    models[-1].is_trained_ = True


def load_model():
    model = SemiClip.load(folder / "model", accelerator="cpu")
    (width,) = {*model.adata["rna"].obs["width"]}
    assert model.init_params_["non_kwargs"]["n_hidden"] == [width]


def load_page():
    assert (folder / "page.html").read_text() in ("a" * 10**6, "b" * 10**6)


kinds = {
    "model": ([lambda m=m: m.save(folder / "model", overwrite=True, save_anndata=True) for m in models], load_model, 3),
    "encoder": (
        [lambda e=e: e.save(folder / "encoder", overwrite=True) for e in encoders],
        lambda: scl.encoders.load(folder / "encoder"),
        2,
    ),
    "page": ([lambda t=t: write_file(folder / "page.html", (t * 10**6).encode()) for t in "ab"], load_page, None),
}
for kind, (saves, load, n_files) in kinds.items():
    saves[0]()
    lost = left = 0
    for _ in range(times):
        if not (child := os.fork()):
            while True:
                for save in saves:
                    save()
        time.sleep(random.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            load()
        except Exception as error:
            print(error, file=sys.stderr)
            lost += 1
        saves[0]()
        files = [*(folder / kind).iterdir()] if n_files else [*folder.glob("*page*")]
        left += len(files) > (n_files or 1)
    print(kind, lost, left)
"""


def kill(folder, times):
    """Return for each kind how many kills lost what was there, and how many left files after the next save."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(times)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {kind: (int(lost), int(left)) for kind, lost, left in map(str.split, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_moment_loses_and_leaves_nothing(tmp_path):
    assert kill(tmp_path, 50) == {"model": (0, 0), "encoder": (0, 0), "page": (0, 0)}
