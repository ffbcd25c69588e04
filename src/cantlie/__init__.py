"""Cantlie: liver radiotherapy research in one reproducible chain. Research use only."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: reading package metadata is slow."""
    if name == "__version__":
        from importlib.metadata import version

        return version("cantlie")
    raise AttributeError(f"module 'cantlie' has no attribute {name!r}")
