"""varcli: coarse-to-fine autoregression for piano rolls."""

__version__ = "0.1.0"
