"""Pictures: each function draws on ``ax`` (or on a new figure) and returns it."""

from semiclip.pl._history import history
from semiclip.pl._recall import recall
from semiclip.pl._venn import venn

__all__ = ["history", "recall", "venn"]
