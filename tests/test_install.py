"""What is imported is declared, what is declared was tried, and a package that is broken is named."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from workbench import doctor

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
NEEDED, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
INSIDE = {"clap_module": "laion-clap"}  # which puts its own folder on the path
SYSTEMS = {
    "Linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    "macOS": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
    "Windows": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*lists):
    found = [Requirement(line) for lines in lists for line in lines]
    return {plain(name) for requirement in found for name in (requirement.name, *requirement.extras)}


def imported(paths):
    for path in paths:
        text = path.read_text()
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            yield from ((name.split(".")[0], path) for name in names)


@pytest.mark.parametrize(
    "folders, lists",
    [
        (("workbench", "notebooks"), (NEEDED, EXTRAS["clap"])),
        (("tests", "benchmarks", "figures"), (NEEDED, *EXTRAS.values())),
    ],
    ids=["product", "tests"],
)
def test_what_is_imported_is_declared(folders, lists):
    here = {path.stem for path in ROOT.rglob("*.py") if ".venv" not in path.parts} | {"workbench"}
    owners, known = metadata.packages_distributions(), declared(*lists)
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".ipynb")]
    for name, path in imported(paths):
        if name not in sys.stdlib_module_names and name not in here:
            assert {plain(owner) for owner in owners.get(name, [INSIDE.get(name, name)])} & known, (
                f"{path.name} imports {name}, which is not declared"
            )


def test_constraints_hold_versions_and_nothing_else():
    for line in LINES:
        requirement = Requirement(line)  # a host, an option or a path is none
        assert (
            re.fullmatch(r"==[\w.+]+", str(requirement.specifier)) and not requirement.url and not requirement.extras
        ), line


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", ["3.11.7", "3.12.1"])
def test_constraints_name_one_version_within_each_declared_range(system, python):
    here = SYSTEMS[system] | {
        "python_version": python[:4],
        "python_full_version": python,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    pinned = {}
    for line in LINES:
        requirement = Requirement(line)
        if requirement.marker is None or Marker(str(requirement.marker)).evaluate(here):
            assert plain(requirement.name) not in pinned, f"two versions of {requirement.name}"
            pinned[plain(requirement.name)] = str(requirement.specifier).removeprefix("==")
    for line in [*NEEDED, *EXTRAS["clap"], *EXTRAS["dev"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[plain(requirement.name)]), line


def test_what_is_installed_is_what_was_tried():
    for line in LINES:
        requirement = Requirement(line)
        if "CI" in os.environ and (requirement.marker is None or requirement.marker.evaluate()):
            assert metadata.version(requirement.name) == str(requirement.specifier).removeprefix("=="), line


def test_each_range_has_two_bounds():
    for line in [*NEEDED, *EXTRAS["clap"], *EXTRAS["dev"]]:
        bounds = {specifier.operator for specifier in Requirement(line).specifier}
        assert {">=", "<"} <= bounds or "==" in bounds, line


def test_the_doctor_imports_every_heavy_package():
    finding = next(finding for finding in doctor.examine() if finding.name == "Packages")
    assert finding.there, finding.what


@pytest.mark.parametrize(
    "fault, sentence",
    {
        "raise OSError('Could not load this library: libtorchaudio.so')": "OSError: Could not load this library: libtorchaudio.so",
        "import os; os.abort()": "the process ended with code",
    }.items(),
)
def test_a_broken_package_is_named_with_what_to_do(tmp_path, monkeypatch, fault, sentence):
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(fault)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setattr(doctor, "HEAVY", ("numpy", "torchaudio", "scipy"))
    assert sentence in doctor.broken()["torchaudio"]
    done = subprocess.run([sys.executable, "-m", "workbench.doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "torchaudio cannot be imported" in done.stdout and "make install" in done.stdout


def test_the_smoke_test_of_an_update_is_there():
    source = ast.parse((ROOT / ".ci" / "update.py").read_text())
    smoke = next(node.value for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == "SMOKE")
    for name in ast.literal_eval(smoke):
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).exists(), name
