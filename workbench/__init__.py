"""Variational autoencoders for one-shots: a notebook-first thesis workbench."""

import importlib
import pkgutil

__version__ = "0.1.0"


def __getattr__(name: str):
    """A package or module of the workbench, imported when it is first named: `import workbench` stays quick."""
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
