"""The shape of the package: imports point down and never in a circle, files stay small, one place knows scvi-tools."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import semiclip

ROOT = Path(semiclip.__file__).parent
# each room may import those before it, and private modules beside the rooms
ROOMS = [
    "errors", "correction", "metrics", "objectives", "baselines", "encoders", "augment", "datasets", "io", "model",
    "pp", "tl", "pl", "_report", "_cli", "__main__",
]  # fmt: skip
MODULES = {
    ".".join(("semiclip", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def read_imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, also within functions, but not for types alone."""
    imports: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "semiclip":
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                imports.update(name if name in MODULES else str(child.module) for name in names)
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return imports


GRAPH = {module: read_imports(path) - {module} for module, path in MODULES.items()}


def room(module: str) -> str:
    return (*module.split("."), "")[1]


def test_there_is_no_circle_of_imports():
    assert len(list(TopologicalSorter(GRAPH).static_order())) == len(MODULES)


def test_imports_point_down():
    upward = {
        (module, other)
        for module, others in GRAPH.items()
        for other in others
        if room(module) in ROOMS and room(other) in ROOMS and ROOMS.index(room(other)) > ROOMS.index(room(module))
    }
    assert upward == set()


def test_numerical_rooms_know_neither_anndata_nor_scvi():
    for name in ("correction", "metrics", "objectives", "baselines"):
        for path in (ROOT / name).rglob("*.py"):
            words = path.read_text(encoding="utf-8").split()
            assert not {"anndata", "mudata", "scvi"} & {*words}, path


def test_private_parts_of_scvi_tools_are_imported_in_one_place():
    for module, path in MODULES.items():
        for line in path.read_text(encoding="utf-8").splitlines():
            private = line.strip().startswith("from scvi") and "._" in line.split(" import ")[0]
            assert not private or module == "semiclip.model._scvi_compat", f"{path}: {line}"


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_small():
    sizes = sorted(count_lines(path) for path in MODULES.values())
    assert sizes[-1] <= 400
    assert sizes[len(sizes) // 2] <= 150
    assert len([module for module in MODULES if room(module) == "model"]) <= 11
    tests = {str(path): count_lines(path) for path in Path(__file__).parent.rglob("*.py")}
    assert {path: size for path, size in tests.items() if size > 400} == {}
