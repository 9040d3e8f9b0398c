# For make of GNU (3.81 and later) and BSD, and any POSIX sh. Everything runs from the environment in .venv.

SHELL = /bin/sh
BIN = .venv/bin/python

help:
	@echo 'make demo                   install, then the whole main job on the built-in pack'
	@echo 'make demo SOURCE=~/samples  the same on a folder, archive or recording of your own'
	@echo 'make test                   install, then all tests'
	@echo 'make install                Python packages into .venv, once, of the versions in constraints.txt'
	@echo 'make update                 resolve constraints.txt anew, try it, and say which versions moved'
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

# The copies in .venv say what was installed: as long as they are the same, nothing is to be done.
install:
	@set -e; \
	if cat pyproject.toml constraints.txt | cmp -s - .venv/installed && $(BIN) -c '' 2>/dev/null; then exit 0; fi; \
	PYTHON="$(PYTHON)" .ci/venv .venv; \
	if [ "$$(uname)" = Darwin ]; then size='less than 1 GB, 2 GB on disk'; else size='2 GB, 6.5 GB on disk: torch brings CUDA'; fi; \
	echo "Installing the Python packages into .venv: about $$size. This is done once."; \
	$(BIN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[clap,dev]'; \
	$(BIN) -m workbench.doctor; \
	cat pyproject.toml constraints.txt > .venv/installed

# what keeps constraints.txt fresh; the environment is left for a look where something fails
update:
	@set -e; \
	rm -rf .venv-next; \
	PYTHON="$(PYTHON)" .ci/venv .venv-next; \
	.venv-next/bin/python .ci/update.py

.PHONY: help demo test lab bench figures thesis slides latex install update
