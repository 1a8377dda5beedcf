"""activeph: the smallest labelled dataset that teaches a model a crystal's finite-temperature properties."""

__version__ = "0.1.0"
