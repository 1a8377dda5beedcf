"""Imports go one way: cli -> build -> loop -> role folders -> {phonons, graphs} -> records. Read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "activeph"
BOTTOM = {
    "__init__",
    "records",
    "errors",
    "seeds",
    "section",
    "targets",
    "progress",
    "kinds",
    "identity",
    "rundir",
    "document",
    "role",
}
PHYSICS = {"phonons", "graphs", "systems"}
ROLES = {"sample", "models", "select", "label", "execute", "store", "report"}
SHARED = {"config", "dataset"}  # data in and out, known to the loop and above
LOOP = {
    "acceptance",
    "calculation",
    "campaign",
    "costs",
    "entries",
    "labelled_displacements",
    "labelling",
    "imports",
    "judgement",
    "ledger_tools",
    "loop",
    "low_fidelity",
    "means",
    "outliers",
    "preparation",
    "prepared",
    "proposal",
    "quasi_harmonic",
    "recovery",
    "renormalisation",
    "replacement",
    "round_files",
    "state",
    "tasks",
    "training",
}
TOP = {"build", "cli"}


def _layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else "__init__"
    for level, names in enumerate((BOTTOM, PHYSICS, ROLES, SHARED, LOOP, TOP)):
        if part in names:
            return level
    raise AssertionError(f"{module}: {part} belongs to no layer; give it one in this test and in ARCHITECTURE.md")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("activeph"):
            found |= {
                f"{node.module}.{alias.name}" if node.module == "activeph" else node.module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("activeph")}
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_layer_or_below(path: Path) -> None:
    name = ".".join(["activeph", *path.relative_to(PACKAGE).with_suffix("").parts])
    own = _layer(name)
    for imported in _imports(path):
        assert _layer(imported) <= own, f"{name} imports {imported} from a layer above"


@pytest.mark.parametrize("path", [p for p in MODULES if p.relative_to(PACKAGE).parts[0] in ROLES])
def test_role_folders_never_import_one_another(path: Path) -> None:
    role = path.relative_to(PACKAGE).parts[0]
    others = {name.split(".")[1] for name in _imports(path) if "." in name} & ROLES - {role}
    assert not others, f"{path.name} of {role} imports from {sorted(others)}"
