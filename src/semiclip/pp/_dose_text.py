"""Doses and times that are text with a unit, such as ``"0.1 uM"``."""

import re
from decimal import Decimal
from typing import NamedTuple

import pandas as pd

from semiclip._labels import fold

# units by kind, each with its size; without case, and with u for the sign of micro
KINDS = {
    "molar": {"m": "1", "mm": "1e-3", "um": "1e-6", "nm": "1e-9", "pm": "1e-12", "fm": "1e-15"}
    | {"mol/l": "1", "mmol/l": "1e-3", "umol/l": "1e-6", "nmol/l": "1e-9", "pmol/l": "1e-12"},
    "mass": {"g/l": "1", "mg/ml": "1", "mg/l": "1e-3", "ug/ml": "1e-3", "ug/l": "1e-6", "ng/ml": "1e-6"},
    "time": {"s": "1", "min": "60", "h": "3600", "hr": "3600", "hrs": "3600", "hour": "3600", "hours": "3600"}
    | {"d": "86400", "day": "86400", "days": "86400"},
    "share": {"%": "1"},
}
UNITS = {unit: (kind, Decimal(size)) for kind, units in KINDS.items() for unit, size in units.items()}
BASES = {kind: next(iter(sizes)) for kind, sizes in KINDS.items()}  # a unit of each kind
DOSE = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d{1,3})?) ?([a-zµμ%/]*)")
THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")  # 1,000 is a thousand, or one


class Dose(NamedTuple):
    """A number with its unit, which is empty where there is none."""

    number: Decimal
    unit: str

    @property
    def kind(self) -> str:
        """What its unit measures."""
        return UNITS[self.unit][0] if self.unit else ""

    def convert(self, unit: str) -> float:
        """Return the number in another unit of the same kind; zero needs none."""
        if not self.unit:
            return float(self.number)
        return float(self.number * UNITS[self.unit][1] / UNITS[unit][1])


def read_dose(label: str) -> Dose | None:
    """Return what a label says, or ``None`` if it is no number, with a unit or without.

    >>> read_dose("0.1 µM"), read_dose("100nM").convert("um"), read_dose("DMSO")
    (Dose(number=Decimal('0.1'), unit='um'), 0.1, None)
    """
    text = fold(label)
    match = DOSE.fullmatch(text)
    if match is None or THOUSANDS.fullmatch(match.group(1)):
        return None
    unit = match.group(2).replace("µ", "u").replace("μ", "u")
    return None if unit and unit not in UNITS else Dose(Decimal(match.group(1).replace(",", ".")), unit)


def has_units(column: pd.Series) -> bool:
    """Tell whether a third or more of the labels of a column are numbers with a unit."""
    doses = [read_dose(label) for label in column.dropna().unique() if isinstance(label, str)]
    return sum(dose is not None and bool(dose.unit) for dose in doses) >= max(1, len(doses) / 3)
