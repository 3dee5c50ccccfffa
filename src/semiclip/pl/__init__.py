"""Pictures: each function draws on ``ax`` (or on a new figure) and returns it."""

from semiclip.pl._ablation import ablation
from semiclip.pl._history import history
from semiclip.pl._pea_views import pea_views
from semiclip.pl._recall import recall
from semiclip.pl._sweep import sweep
from semiclip.pl._venn import venn

__all__ = ["ablation", "history", "pea_views", "recall", "sweep", "venn"]
