"""The house rules about who may import whom, held as a test."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "icefusion"

WORDS = {"errors", "config", "reports", "clock", "naming"}
# What each stage may see besides itself and the words. `sql.statements` holds values that every stage may speak of.
STAGES = {
    "bridge": {"sql.statements", "sql.basics", "sql.alterations"},
    "sql": {"bridge"},
    "query": {"bridge", "sql"},
    "write": {"bridge"},
    "commit": {"bridge", "sql.statements", "sql.basics", "sql.alterations"},
}
# Foreign modules with one home.
HOMES = {"datafusion": {"query"}, "sqlalchemy": {"commit"}, "pyiceberg.catalog": {"commit", "session", "testing"}}
FILES = sorted(SRC.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """Imported modules, with the line and whether the import stands at the top of the file."""
    tree = ast.parse(path.read_text())
    typing_only = {id(n) for top in ast.walk(tree) if is_type_checking(top) for n in ast.walk(top)}
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.append((node.module or "", node.lineno, id(node) in top))
            found += [(f"{node.module}.{alias.name}", node.lineno, id(node) in top) for alias in node.names]
    return found


def ours(path: Path) -> set[str]:
    known = {module_name(file) for file in FILES}
    names = {name.removeprefix("icefusion.") for name, _, _ in imports(path) if name.startswith("icefusion.")}
    return names & known


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_stage_sees_only_itself_and_what_lies_to_its_left(path: Path) -> None:
    stage = module_name(path).split(".")[0]
    if stage not in STAGES:
        return
    allowed = STAGES[stage] | WORDS | {stage}
    strangers = {name for name in ours(path) if not any(name == a or name.startswith(a + ".") for a in allowed)}
    assert strangers == set()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_stand_at_the_top_of_the_file(path: Path) -> None:
    assert [f"{name} in line {line}" for name, line, at_top in imports(path) if not at_top] == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_foreign_modules_keep_to_their_homes(path: Path) -> None:
    stage = module_name(path).split(".")[0]
    for name, _, _ in imports(path):
        for foreign, homes in HOMES.items():
            if name == foreign or name.startswith(foreign + "."):
                assert stage in homes, f"{name} is imported outside of {homes}"


def test_there_is_no_import_cycle() -> None:
    graph = {module_name(path): ours(path) - {module_name(path)} for path in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join((*path, module))}"
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
