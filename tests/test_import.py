from __future__ import annotations

import subprocess
import sys
from typing import Literal, get_origin

import pytest

import semiclip as scl

HEAVY = {"torch", "scvi", "scanpy", "matplotlib", "sklearn", "anndata", "mudata", "pooch", "lightning", "rdata"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_loads_nothing_heavy():
    assert HEAVY.isdisjoint(run("import semiclip, sys; print(*sys.modules, sep='\\n')").split())


def test_importing_takes_less_than_half_a_second_more_than_numpy():
    code = "import time, numpy; start = time.perf_counter(); import semiclip; print(time.perf_counter() - start)"
    assert min(float(run(code)) for _ in range(3)) < 0.5


def test_rooms_load_on_first_use():
    assert run("import semiclip as scl, sys; scl.metrics; print('torch' in sys.modules)").strip() == "False"
    assert run("import semiclip as scl, sys; scl.pl; print('matplotlib' in sys.modules)").strip() == "False"
    assert set(scl.__all__) <= set(dir(scl))
    with pytest.raises(AttributeError, match="module 'semiclip' has no attribute 'wrong'"):
        scl.wrong  # noqa: B018


def test_the_report_is_a_function_that_loads_on_first_use():
    code = (
        "import semiclip as scl, sys; print(callable(scl.report), 'matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    assert run(code).split() == ["True", "False", "False"]
    assert "report" in scl.__all__
    assert (scl.report.__doc__ or "").strip()


def test_the_settings_are_an_object_that_is_documented():
    kind = type(scl.settings)
    assert "settings" in scl.__all__
    assert (kind.__doc__ or "").strip()
    assert (kind.verbosity.__doc__ or "").strip()


@pytest.mark.parametrize("room", sorted({*scl.__all__} - {"report", "settings"}))
def test_public_names_exist_and_are_documented(room):
    module = getattr(scl, room)
    assert len(set(module.__all__)) == len(module.__all__)
    public = [getattr(module, name) for name in module.__all__]
    assert all((value.__doc__ or "").strip() for value in public if get_origin(value) is not Literal)
