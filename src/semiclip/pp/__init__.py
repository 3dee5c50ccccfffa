"""Prepare: encode counts or lay them out for a network, correct batches, report how two modalities pair."""

from semiclip.pp._encode import encode
from semiclip.pp._expression import expression
from semiclip.pp._pair import pair
from semiclip.pp._pea_correct import pea_correct

__all__ = ["encode", "expression", "pair", "pea_correct"]
