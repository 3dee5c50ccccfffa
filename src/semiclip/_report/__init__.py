"""The report: one page that holds everything it shows."""

from semiclip._report._report import report

__all__ = ["report"]
