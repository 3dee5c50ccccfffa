"""What a user sees: warnings at the user's line, lines of a log, and nothing of other loggers."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest

import semiclip as scl
from semiclip import errors

# a study of two files, of which one in ten keys is shared, with values that are logged already
SCRIPT = """\
import sys
import anndata as ad
import mudata
import semiclip as scl

mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else None
rna, image = (ad.read_h5ad(f"{sys.argv[1]}/{name}.h5ad") for name in ("rna", "image"))
encoder = scl.pp.encode(rna, encoder="pca", n_components=5, rng=0)
scl.pp.encode(rna[:, :38].copy(), encoder=encoder)
mdata = mudata.MuData({"rna": rna, "image": image})
columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
scl.pp.pea_correct(rna, use_rep="X_pca", **columns, key_added="X_corrected")
pairs = {"student_rep": "X_corrected", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
model = scl.tl.semiclip(mdata, **pairs, **columns, recipe="whole", max_epochs=20, rng=0, accelerator="cpu")
import logging
assert not logging.getLogger().handlers
"""
EXPECTED = {"not whole": 8, "so it fills them in": 9, "have a partner": 14, "corrected by": 14}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study = scl.datasets.simulate(n_compounds=40, n_knockouts=10, n_pathways=5, n_genes=40, rng=0)
    rna, image = study.mdata["rna"].copy(), study.mdata["image"].copy()
    rna.X = np.log1p(rna.X)
    names = image.obs["perturbation"].astype(str)
    shared = sorted({*names} - {"control"})[:4]
    image.obs["perturbation"] = np.where(names.isin([*shared, "control"]), names, "other " + names)
    for name, adata in (("rna", rna), ("image", image)):
        adata.write_h5ad(folder / f"{name}.h5ad")
    return folder


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def count(text, line, words):
    """Count the warnings with these words that name a line."""
    return sum(words in told and f":{line}: SemiclipWarning" in told for told in text.splitlines())


def test_a_script_shows_each_warning_once_at_its_line(files, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = run(path, files)
    assert done.returncode == 0, done.stderr
    for words, line in EXPECTED.items():
        assert count(done.stderr, line, words) == 1, done.stderr
    assert "litlogger" not in done.stderr
    assert done.stderr.count("train_loss") == 10
    assert len(done.stderr.splitlines()) < 40
    assert not done.stdout


def test_warnings_can_be_errors(files, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = run("-W", "error::UserWarning", path, files)
    assert done.returncode != 0
    assert "SemiclipWarning" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_notebook_shows_them_as_well(files, tmp_path):
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    source = SCRIPT.replace("sys.argv[1]", repr(str(files)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=300).execute()
    told = "".join(part.get("text", "") for part in notebook.cells[0].outputs if part.get("name") == "stderr")
    for words, line in EXPECTED.items():
        assert count(told, line, words) == 1, told


# ---- levels


@pytest.fixture
def verbosity():
    before = scl.settings.verbosity
    yield
    scl.settings.verbosity = before


@pytest.mark.parametrize(
    ("level", "number"), [("warning", 30), ("INFO", 20), (logging.DEBUG, 10), (0, 40), (1, 30), (2, 20), (4, 10)]
)
def test_verbosity_is_the_level_of_the_logger(verbosity, level, number):
    scl.settings.verbosity = level
    assert scl.settings.verbosity == logging.getLogger("semiclip").level == number


@pytest.mark.parametrize("level", ["loud", None, 1.5])
def test_other_levels_are_refused(verbosity, level, refuses):
    before = scl.settings.verbosity
    with refuses(errors.BadValue, name="verbosity", value=level):
        scl.settings.verbosity = level
    assert scl.settings.verbosity == before


def test_lines_are_shown_once_whoever_listens():
    say = "logging.getLogger('semiclip.x').info('seen')"
    changes = {"": ["seen"], "logging.basicConfig()": ["INFO:semiclip.x:seen"], "settings.verbosity = 1": []}
    for change, seen in changes.items():
        told = run("-c", f"import logging\nfrom semiclip import settings\n{change}\n{say}")
        assert told.stderr.splitlines() == seen


# ---- what takes long to load


WATCH = "import sys; sys.stderr.isatty = lambda: True"
LOADING = "loading PyTorch, Lightning, scvi-tools, once in a session: this takes some seconds"


def find_lines(code):
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "loading" in line or line == "not yet"]


def test_what_takes_long_to_load_is_said_once_before():
    light = "scl.pp, scl.tl, scl.encoders; print('not yet', file=sys.stderr)"
    assert find_lines(f"{WATCH}; import semiclip as scl; {light}; scl.model; scl.model") == ["not yet", LOADING]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (f"{WATCH}; import torch", [LOADING.replace("PyTorch, ", "")]),
        (f"{WATCH}; import scvi", []),
        (f"{WATCH}; from semiclip import settings; settings.verbosity = 1", []),
        ("", []),  # nobody watches
    ],
)
def test_what_is_loaded_is_not_announced_nor_where_nobody_watches(code, told):
    assert find_lines(f"{code}\nimport semiclip.model") == told


@pytest.mark.slow
def test_an_encoder_says_so_as_well():
    study = "scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)"
    quiet = "train_kwargs={'enable_progress_bar': False}"
    fit = f"scl.pp.encode({study}.mdata['rna'], encoder='scvi', max_epochs=1, {quiet})"
    done = run("-c", f"{WATCH}; import semiclip as scl; {fit}; scl.model")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(LOADING) == done.stderr.count("loading") == 1


def test_genes_by_a_linear_encoder_announce_torch_alone():
    study = "scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0)"
    code = f"""
import semiclip as scl
rna = {study}.knockouts["rna"]
encoder = scl.pp.encode(rna, n_components=5, rng=0)
explain = {{"perturbation_key": "perturbation", "control": "control", "n_permutations": 0}}
for name in ("gene_00", "gene_01"):
    scl.tl.gene_attribution(rna, use_rep="X_pca", encoder=encoder, perturbation=name, **explain)
"""
    assert find_lines(f"{WATCH}\n{code}") == [LOADING.replace(", Lightning, scvi-tools", "")]


def test_a_warning_stops_what_it_warns_of_where_it_is_an_error(small_study):
    adata = small_study.mdata["rna"].copy()
    adata.X = adata.X * 0.5
    del adata.obsm["X_pca"], adata.uns["semiclip"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(errors.SemiclipWarning):
            scl.pp.encode(adata, encoder="pca", n_components=3)
    assert not adata.obsm
    assert "semiclip" not in adata.uns
