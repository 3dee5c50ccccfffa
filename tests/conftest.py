from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the published files; tests that need them skip without it."""
    if not (folder := os.environ.get("SEMICLIP_DATA_DIR")):
        pytest.skip("SEMICLIP_DATA_DIR does not name a folder with the published files")
    return Path(folder)


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
