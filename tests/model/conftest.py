from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import semiclip as scl

if TYPE_CHECKING:
    from semiclip.datasets import Study

SETUP: dict[str, Any] = {
    "student_rep": "X_pca",
    "teacher_rep": "X_image",
    "pair_on": ["perturbation", "dose"],
    "perturbation_key": "perturbation",
    "control": "control",
    "batch_key": "batch",
}
QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="session")
def _study() -> Study:
    study = scl.datasets.simulate(
        n_compounds=24, n_knockouts=24, n_pathways=6, n_genes=60, n_image_features=16, n_batches=3, n_controls=12
    )
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8)
    scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    return study


@pytest.fixture
def mdata(_study):
    return _study.mdata.copy()


@pytest.fixture
def knockouts(_study):
    return _study.knockouts["rna"].copy()


@pytest.fixture
def setup() -> dict[str, Any]:
    return dict(SETUP)


@pytest.fixture
def quiet() -> dict[str, Any]:
    return dict(QUIET)


@pytest.fixture
def untrained(mdata):
    scl.model.SemiClip.setup_mudata(mdata, **SETUP)
    return scl.model.SemiClip(mdata)


@pytest.fixture
def model(untrained):
    untrained.train(2, **QUIET)
    return untrained
