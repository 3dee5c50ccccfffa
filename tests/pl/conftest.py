from __future__ import annotations

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _pictures():
    """Check that drawing leaves matplotlib's settings alone, and close what was drawn."""
    from matplotlib import pyplot as plt

    before = matplotlib.rcParams.copy()
    yield
    plt.close("all")
    assert matplotlib.rcParams == before
