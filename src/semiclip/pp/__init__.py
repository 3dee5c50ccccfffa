"""Prepare: describe data, encode and augment them, correct batches, report how two modalities pair."""

from semiclip._views import split_views as get_views
from semiclip.pp._augment import augment
from semiclip.pp._check import check
from semiclip.pp._deprecated import annotate, images, profiles
from semiclip.pp._encode import encode
from semiclip.pp._expression import expression
from semiclip.pp._pair import pair
from semiclip.pp._pea_correct import pea_correct

__all__ = [
    "annotate",
    "augment",
    "check",
    "encode",
    "expression",
    "get_views",
    "images",
    "pair",
    "pea_correct",
    "profiles",
]
