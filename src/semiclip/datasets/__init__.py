"""Public data sets, downloaded on first use, and a simulator with known truth."""

from semiclip.datasets._annotations import gene_aliases, gene_sets, relationships
from semiclip.datasets._crispr import l1000_crispr, replogle_rpe1
from semiclip.datasets._files import fetch
from semiclip.datasets._genes import rpe1_periscope
from semiclip.datasets._published import lincs_a549, u2os_compounds, u2os_orfs
from semiclip.datasets._shift import shift_assay
from semiclip.datasets._simulate import REGIMES, Study, simulate

__all__ = [
    "REGIMES",
    "Study",
    "fetch",
    "gene_aliases",
    "gene_sets",
    "l1000_crispr",
    "lincs_a549",
    "relationships",
    "replogle_rpe1",
    "rpe1_periscope",
    "shift_assay",
    "simulate",
    "u2os_compounds",
    "u2os_orfs",
]
