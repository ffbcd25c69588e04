"""Cantlie: liver radiotherapy research in one reproducible chain. Research use only."""

from importlib.metadata import version

__version__ = version("cantlie")
__all__ = ["__version__"]
