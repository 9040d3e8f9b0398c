"""Write constraints.txt anew: the newest versions within the ranges of pyproject.toml that pass a smoke test.

`make update` runs this in an environment of its own, .venv-next. Nothing is written unless all of it works.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOKE = [  # imports; data, train, draw, report, map and play as notebooks; their pages in a browser; figure files
    "tests/test_install.py",
    "tests/test_journey.py::test_each_run_tells_what_made_it",
    "tests/test_journey.py::test_figures_draw_and_a_game_is_played_by_ear_in_a_page_alone",
    "tests/test_figures.py::test_every_figure_reaches_paper",
]


def run(*words):
    print("+", " ".join(map(str, words)), flush=True)
    subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=ROOT, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )


def resolved(path: Path) -> str:
    """Versions with markers for the systems of [tool.uv] in pyproject.toml; what holds on all of them is left unsaid."""
    options = [
        "--universal",
        "--python-version",
        "3.11",
        "--no-header",
        "--no-annotate",
        "--extra",
        "clap",
        "--extra",
        "dev",
    ]
    run("uv", "pip", "compile", "-q", *options, "pyproject.toml", "-o", path)
    lines = [line for line in path.read_text().splitlines() if "==" in line]
    markers = [line.partition(" ; ")[2] for line in lines]
    common = max(set(markers), key=markers.count)  # python_full_version < '3.13' and (Linux or macOS or Windows)
    python, _, systems = common.partition(" and ")
    text = "\n".join(lines) + "\n"
    for said in (f" ; {common}", f" and {systems}", f"{python} and ", f" and {python}", f" ; {python}"):
        text = re.sub(re.escape(said) + r"(?=$|\n)" if said.startswith(" ; ") else re.escape(said), "", text)
    return text


def versions(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def main() -> None:
    kept, new = ROOT / "constraints.txt", ROOT / ".venv-next" / "constraints.txt"
    run("pip", "install", "-q", "uv")
    text = resolved(new)
    new.write_text(text)
    run("pip", "install", "-q", "-c", new, "-e", ".[clap,dev]")
    run("workbench.doctor")
    run("pytest", "-q", *SMOKE, "--deselect", "tests/test_install.py::test_what_is_installed_is_what_was_tried")
    before, after = versions(kept.read_text() if kept.exists() else ""), versions(text)
    moved = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    for name in moved:
        old, now = (", ".join(sorted(of.get(name, {"none"}))) for of in (before, after))
        print(f"{name}: {old} -> {now}")
    kept.write_text(text)
    print(f"constraints.txt is written: {len(moved)} of {len(after)} versions moved. Run make test, then commit it.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"constraints.txt stays as it was: `{' '.join(error.cmd[2:5])} ...` failed, and what it said stands above."
        )
