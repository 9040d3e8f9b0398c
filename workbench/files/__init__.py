"""Files that no reader sees half of, and folders that one process at a time writes in."""

from workbench.files.writing import full, read_json, room, unused, whole, write_json

__all__ = ["full", "read_json", "room", "unused", "whole", "write_json"]
