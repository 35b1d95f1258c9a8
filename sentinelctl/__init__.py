"""One command line that owns the life of every Sentinel service."""

__version__ = "0.1.0"
