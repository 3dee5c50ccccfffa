import pandas as pd
import pytest

from semiclip.pp._mistakes import CONTROL_NAME, simple


@pytest.mark.parametrize(
    "name",
    "DMSO dmso Control ctrl NEG negcon Neg.Ctrl non-targeting NonTargeting_12 NT NTC vehicle EMPTY empty_vector "
    "Untreated mock scrambled".split(),
)
def test_knows_usual_names_of_controls(name):
    assert CONTROL_NAME.fullmatch(simple(pd.Series([name]))[0])


@pytest.mark.parametrize("name", "aspirin NTRK1 CTRL1B DMSOX MOCOS NEGR1 controlin NT5E VHL".split())
def test_knows_perturbations_from_controls(name):
    assert not CONTROL_NAME.fullmatch(simple(pd.Series([name]))[0])
