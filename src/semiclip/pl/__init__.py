"""Pictures: each function draws on ``ax`` (or on a new figure) and returns it."""

from semiclip.pl._dose import dose
from semiclip.pl._genes import gene_attribution
from semiclip.pl._history import history
from semiclip.pl._maps import embedding, heatmap
from semiclip.pl._overlap import gains_losses, null_overlap
from semiclip.pl._pea_views import pea_views
from semiclip.pl._plate import plate
from semiclip.pl._recall import recall, recall_curve, similarity
from semiclip.pl._region import enrichment, relationship_network
from semiclip.pl._runs import ablation, sweep
from semiclip.pl._scores import preservation, zscores
from semiclip.pl._venn import venn

__all__ = [
    "ablation",
    "dose",
    "embedding",
    "enrichment",
    "gains_losses",
    "gene_attribution",
    "heatmap",
    "history",
    "null_overlap",
    "pea_views",
    "plate",
    "preservation",
    "recall",
    "recall_curve",
    "relationship_network",
    "similarity",
    "sweep",
    "venn",
    "zscores",
]
