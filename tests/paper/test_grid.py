"""Printed tables of the paper command, and the paper's own numbers beside them."""

from __future__ import annotations

import numpy as np

from semiclip._cli._paper import _published as published
from semiclip._cli._paper._grid import Cell, Grid, place, write_latex, write_mean


def test_grids_are_printed_alike():
    rows = [("A & B", [Cell("1.00 ± 0.10", 1, "up"), Cell("–")]), ("C_1", [Cell("0.50", 2, "down"), Cell("5 %")])]
    grid = Grid("Caption, 100 %.", [("set", 2)], ["x", "y"], rows, "Method")
    assert grid.markdown.splitlines() == [
        "| Method | set, x | set, y |",
        "| --- | ---: | ---: |",
        "| A & B | ↑ **1.00 ± 0.10** | – |",
        "| C_1 | ↓ <u>0.50</u> | 5 % |",
        "",
        "Caption, 100 %.",
    ]
    assert grid.latex.splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & \multicolumn{2}{c}{set} \\",
        r"Method & x & y \\",
        r"\midrule",
        r"A \& B & $\uparrow$ \textbf{1.00 $\pm$ 0.10} & -- \\",
        r"C\_1 & $\downarrow$ \underline{0.50} & 5 \% \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{Caption, 100 \%.}",
        r"\end{table}",
    ]


def test_best_and_second_are_marked():
    assert place([1.0, 3.0, 2.0, 3.0, np.nan]) == [0, 1, 2, 1, 0]
    assert place([2.0, 2.0]) == [0, 0]  # nothing is better than anything
    assert write_mean(1.005, np.nan) == "1.00"
    assert write_mean(-0.5, 0.25) == "−0.50 ± 0.25"
    assert write_mean(np.nan, np.nan) == "–"
    assert write_latex("a_b {c} #1") == r"a\_b \{c\} \#1"


def test_the_numbers_of_the_paper_agree_with_each_other():
    for name, rungs in published.TABLE2.items():
        table1 = [published.TABLE1[arm][1][0] for arm in (name, f"{name} + PEA")]
        assert [rungs[0], rungs[-1]] == table1  # the ends of the ladder
    for kept, gained, lost, total in published.FIGURE5.values():
        assert kept + gained == total
        assert kept + lost in (61, 62)
    recall = {name: published.TABLE1[name][1::2] for name in ("Semi-Clipped", "Semi-Clipped + PEA")}
    gains = [round(100 * (a[0] / b[0] - 1)) for b, a in zip(*recall.values(), strict=True)]
    assert gains == [17, 55, 22]  # the text says 20 for the last, of five seeds
