from __future__ import annotations

import pytest

from semiclip.model import Baseline, SemiClip

SETUP = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
SETUP |= {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


@pytest.fixture(scope="session")
def models(small_study):
    """Two trained models and a baseline, which tests only read."""
    mdata = small_study.mdata.copy()
    SemiClip.setup_mudata(mdata, **SETUP)
    first, second = (SemiClip(mdata, n_hidden=widths) for widths in ([], [4]))
    for model in (first, second):
        model.train(1, accelerator="cpu", enable_progress_bar=False, logger=False)
    Baseline.setup_mudata(mdata, **SETUP)
    baseline = Baseline(mdata, method="ridge")
    baseline.train()
    return first, second, baseline
