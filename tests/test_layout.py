"""The layout: what lies in `workbench/`, in which order it imports, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import workbench

HOME = Path(workbench.__file__).parent
# from the bottom to the top: each imports only what stands before it
ORDER = [
    "errors",
    "files",
    "data",
    "plots",
    "runs",
    "nn",
    "saved",
    "autoencoder",
    "models",
    "trained",
    "training",
    "evaluation",
    "latent",
    "widgets",
    "listening",
    "thesis",
    "checks",
    "doctor",
    "cli",
]
FILES = sorted(HOME.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules of the workbench that a file imports anywhere, also within functions."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative path"
            if node.module == "workbench":
                found |= {f"workbench.{name.name}" for name in node.names}
            elif node.module and node.module.startswith("workbench."):
                folder = HOME.joinpath(*node.module.split(".")[1:])
                files = {f"{node.module}.{n.name}" for n in node.names if (folder / f"{n.name}.py").is_file()}
                found |= files if len(files) == len(node.names) else files | {node.module}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.startswith("workbench.")}
    return found


def chapter(module: str) -> str:
    return module.split(".")[1]


def test_each_entry_has_its_place():
    there = {p.stem for p in HOME.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    assert there == set(ORDER)
    assert len(there) < 20


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(HOME).as_posix())
def test_imports_run_one_way(path):
    own = path.relative_to(HOME).with_suffix("").parts[0]
    if own == "__init__":
        return
    upward = {m for m in imported(path) if m != "workbench.__version__" and ORDER.index(chapter(m)) > ORDER.index(own)}
    assert not upward, f"{own} imports {upward}, which stands above it"


def test_a_family_imports_no_family():
    families = {p.stem for p in (HOME / "models").glob("[!_]*.py")}
    for name in families:
        assert not {f"workbench.models.{other}" for other in families} & imported(HOME / "models" / f"{name}.py"), name


def test_no_module_imports_itself_in_a_circle():
    graph = {}
    for path in FILES:
        parts = path.relative_to(HOME.parent).with_suffix("").parts
        graph[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = imported(path)
    done, way = set(), []

    def visit(module: str) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module in done or module not in graph:
            return
        way.append(module)
        for other in sorted(graph[module]):
            visit(other)
        done.add(way.pop())

    for module in sorted(graph):
        visit(module)


def test_no_file_is_longer_than_a_head_holds():
    lengths = {p.relative_to(HOME).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert not {name: n for name, n in lengths.items() if n > 400}


def test_importing_the_workbench_is_quick_and_its_parts_come_by_name():
    code = (
        "import sys, workbench; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; "
        "assert workbench.data.build.__name__ == 'build' and 'torch' not in sys.modules; "
        "assert workbench.training.fit.__name__ == 'fit' and workbench.autoencoder.load.__name__ == 'load'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'report'"):
        workbench.report  # noqa: B018
