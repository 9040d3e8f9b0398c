"""Variational autoencoders for one-shots: a notebook-first thesis workbench."""

__version__ = "0.1.0"
