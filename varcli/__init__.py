"""varcli: coarse-to-fine autoregression for piano rolls and for single-molecule microscopy."""

from varcli.version import __version__

__all__ = ["__version__"]
