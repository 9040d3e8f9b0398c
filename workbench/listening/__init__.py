"""Listening tests, from stimuli to what votes say."""

from workbench.listening.test import KINDS, LEASE, REAL, Kind, Test, anchor, prepare

__all__ = ["KINDS", "LEASE", "REAL", "Kind", "Test", "anchor", "prepare"]
