"""From a folder of sounds to a store of clips."""

from workbench.data.builder import NEAR, SPLITS, build
from workbench.data.clips import Clips
from workbench.data.stores import DataError

__all__ = ["NEAR", "SPLITS", "Clips", "DataError", "build"]
