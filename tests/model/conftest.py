from __future__ import annotations

import pytest

from semiclip.model import SemiClip


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts["rna"].copy()


@pytest.fixture
def untrained(mdata, setup):
    SemiClip.setup_mudata(mdata, **setup)
    return SemiClip(mdata)


@pytest.fixture
def model(untrained, quiet):
    untrained.train(2, **quiet)
    return untrained
