from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[1] / "tutorials"
REAL_DATA = {"evaluation", "near_my_gene"}  # these read the published files


def test_the_tutorials_are_there():
    assert {path.stem for path in FOLDER.glob("*.md")} >= {"quickstart", *REAL_DATA}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(notebook: Path, tmp_path: Path, request: pytest.FixtureRequest):
    if notebook.stem in REAL_DATA:
        request.getfixturevalue("data_dir")
    # as a script in a process of its own: no kernel is needed, and nothing of this session leaks in
    script = tmp_path / f"{notebook.stem}.py"
    jupytext.write(jupytext.read(notebook), script)
    run = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-5000:]
