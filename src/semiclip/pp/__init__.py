"""Prepare: encode counts, correct batches, report how two modalities pair."""

from semiclip.pp._encode import encode
from semiclip.pp._pair import pair
from semiclip.pp._pea_correct import pea_correct

__all__ = ["encode", "pair", "pea_correct"]
