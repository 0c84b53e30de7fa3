"""Compiled (Cython) modules; their sources stand in the folder ``ext`` beside the package."""
