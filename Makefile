# For make of GNU (3.81 and later) and BSD, and any POSIX sh. Everything runs from the environment in .venv.

SHELL = /bin/sh
BIN = .venv/bin/python

help:
	@echo 'make demo                   install, then the whole main job on the built-in pack'
	@echo 'make demo SOURCE=~/samples  the same on a folder, archive or recording of your own'
	@echo 'make test                   install, then all tests'
	@echo 'make install                Python packages into .venv, once'
	@echo 'make lab                    JupyterLab at the notebooks'
	@echo 'make bench                  benchmarks: ratios against peers in one run'
	@echo 'make figures                figures, tables and numbers of the thesis, without training'
	@echo 'make thesis                 these, then the thesis as a PDF; make slides: a short deck of them'

# SOURCE reaches the shell through the environment, so that any path does
demo: install
	@SOURCE="$${SOURCE:-synthetic}"; $(BIN) -m workbench.cli demo --source "$$SOURCE"

test: install
	@HF_HUB_OFFLINE=1 $(BIN) -m pytest -q

lab: install
	@$(BIN) -m workbench.cli lab

# those that ask for nothing; the others take a store or a run (see their first lines)
bench: install
	@for name in speed listening latent_map; do echo "$$name"; $(BIN) benchmarks/$$name.py || exit 1; done

figures: install
	@$(BIN) figures/make.py

thesis: latex install figures
	@cd thesis && latexmk thesis.tex
	@echo 'The thesis is thesis/generated/thesis.pdf.'

slides: latex install figures
	@cd thesis && latexmk slides.tex
	@echo 'The slides are thesis/generated/slides.pdf.'

latex:
	@command -v latexmk >/dev/null || { \
	    echo 'The thesis is set by LaTeX, and there is no latexmk: apt-get install latexmk texlive-latex-recommended' \
	        'texlive-fonts-recommended texlive-pictures lmodern (Debian), or brew install --cask mactex (macOS); then make again.' >&2; \
	    exit 1; \
	}

# The copy of pyproject.toml in .venv says what was installed: as long as it is the same, nothing is to be done.
install:
	@set -e; \
	if cmp -s pyproject.toml .venv/installed.toml && $(BIN) -c '' 2>/dev/null; then exit 0; fi; \
	if ! $(BIN) -c 'import pip' 2>/dev/null; then \
	    python=''; bare=''; \
	    for try in "$$PYTHON" python3.12 python3.11 python3 python; do \
	        [ -n "$$try" ] || continue; \
	        "$$try" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue; \
	        if "$$try" -c 'import ensurepip, venv' 2>/dev/null; then python=$$try; break; else bare=$$try; fi; \
	    done; \
	    if [ -z "$$python" ] && [ -n "$$bare" ]; then \
	        echo "$$bare is the right Python, but it cannot make environments: apt-get install python3-venv, then make again." >&2; \
	        exit 1; \
	    fi; \
	    if [ -z "$$python" ]; then \
	        echo 'No Python 3.11 or 3.12 was found. Get one by: apt-get install python3.11-venv (Debian 12), brew install' \
	            'python@3.12 (macOS), pyenv install 3.12, or python.org; then make again, or make PYTHON=/path/to/it.' >&2; \
	        exit 1; \
	    fi; \
	    "$$python" -m venv --clear .venv; \
	fi; \
	if [ "$$(uname)" = Darwin ]; then size='less than 1 GB, 2 GB on disk'; else size='2 GB, 6.5 GB on disk: torch brings CUDA'; fi; \
	echo "Installing the Python packages into .venv: about $$size. This is done once."; \
	$(BIN) -m pip install --disable-pip-version-check -e '.[clap,dev]'; \
	cp pyproject.toml .venv/installed.toml

.PHONY: help demo test lab bench figures thesis slides latex install
