"""Prepare: describe data, encode and augment them, correct batches, rename genes, report how two modalities pair."""

from semiclip._views import split_views as get_views
from semiclip.pp._augment import augment
from semiclip.pp._check import check, pair
from semiclip.pp._deprecated import annotate, images, profiles
from semiclip.pp._encode import encode, expression
from semiclip.pp._match_genes import match_genes
from semiclip.pp._pea_correct import pea_correct

__all__ = [
    "annotate",
    "augment",
    "check",
    "encode",
    "expression",
    "get_views",
    "images",
    "match_genes",
    "pair",
    "pea_correct",
    "profiles",
]
