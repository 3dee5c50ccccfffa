from __future__ import annotations

import hashlib
import json
import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

import semiclip as scl
from semiclip.errors import SemiclipWarning

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each core has a worker already
# machines may be busy, and in CI every run draws the same examples
hypothesis.settings.register_profile("semiclip", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("semiclip")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mudata import MuData

    from semiclip.datasets import Study
    from semiclip.errors import SemiclipError


@pytest.fixture(scope="session")
def refuses() -> Callable[..., AbstractContextManager[Any]]:
    """Expect an error of a type with these data; its words are checked in one place, `test_errors.py`."""

    def refuse(error: type[SemiclipError], **data: Any) -> AbstractContextManager[Any]:
        def check(caught: SemiclipError) -> bool:
            have = {name: getattr(caught, name) for name in data}
            assert have == data, caught
            return True

        return pytest.raises(error, check=check)

    return refuse


@pytest.fixture
def warned() -> Iterator[Callable[[], list[str]]]:
    """Return what the package has warned of since the last call; its warnings are no errors in such a test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SemiclipWarning)

        def take() -> list[str]:
            messages = [str(warning.message) for warning in caught if issubclass(warning.category, SemiclipWarning)]
            caught.clear()
            return messages

        yield take


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the published files; tests that need them skip without it."""
    if not (folder := os.environ.get("SEMICLIP_DATA_DIR")):
        pytest.skip("SEMICLIP_DATA_DIR does not name a folder with the published files")
    return Path(folder)


@pytest.fixture(scope="session")
def craft() -> Callable[[Path, str, Callable[[dict[str, Any]], None]], None]:
    """Change what a saved folder says, with all checksums right, as someone would who means harm."""

    def change(folder: Path, name: str, change_index: Callable[[dict[str, Any]], None] = dict) -> None:
        path = folder / f"{name}.json"
        index = json.loads(path.read_text())
        del index["sha256"]
        index["weights"] = hashlib.sha256((folder / index["files"][0]).read_bytes()).hexdigest()
        change_index(index)
        digest = hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"sha256": digest, **index}))

    return change


@pytest.fixture
def through_h5mu(tmp_path: Path) -> Callable[[MuData], MuData]:
    """Write a MuData to a file and read it back."""
    import mudata

    def through(mdata: MuData) -> MuData:
        # mudata 0.3 warns on every write unless the behaviour of 0.4 is asked for
        quiet = mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()
        with quiet:
            mdata.write(tmp_path / "stored.h5mu")
            return mudata.read_h5mu(tmp_path / "stored.h5mu")

    return through


@pytest.fixture(scope="session")
def make_screen() -> Callable[..., MuData]:
    """Make two modalities of a row per label of the column ``drug`` and two controls, ``dmso``, at the end."""
    import anndata
    import mudata
    import numpy as np
    import pandas as pd

    def make(rna: list[Any], image: list[Any], **columns: Any) -> MuData:
        sides = {}
        for name, labels in (("rna", rna), ("image", image)):
            drugs = pd.array([*labels, "dmso", "dmso"], dtype=object)
            obs = pd.DataFrame({"drug": drugs, **columns}, index=[f"{name}{i}" for i in range(len(drugs))])
            sides[name] = anndata.AnnData(obs=obs, obsm={"X_any": np.ones((len(obs), 2))})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mudata.MuData(sides)

    return make


@pytest.fixture(scope="session")
def small_study() -> Study:
    """A study with encoded counts, small enough to train on in a moment; copy what a test writes to."""
    return _make_study(24)


@pytest.fixture(scope="session")
def shared_study() -> Study:
    """A study of enough compounds to show, whatever the seed, that its sides share directions."""
    return _make_study(100)


def _make_study(n_compounds: int) -> Study:
    study = scl.datasets.simulate(
        n_compounds=n_compounds,
        n_knockouts=24,
        n_pathways=6,
        n_genes=60,
        n_image_features=16,
        n_batches=3,
        n_controls=12,
        rng=0,
    )
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8, rng=0)
    scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    return study


@pytest.fixture
def mdata(small_study: Study) -> MuData:
    """The compounds of the small study."""
    return small_study.mdata.copy()


@pytest.fixture
def setup() -> dict[str, Any]:
    """What the columns of the small study mean."""
    return {
        "student_rep": "X_pca",
        "teacher_rep": "X_image",
        "pair_on": ["perturbation", "dose"],
        "perturbation_key": "perturbation",
        "control": "control",
        "batch_key": "batch",
    }


@pytest.fixture
def quiet() -> dict[str, Any]:
    """Arguments of training that keep it on the CPU and silent."""
    return {"accelerator": "cpu", "enable_progress_bar": False}
