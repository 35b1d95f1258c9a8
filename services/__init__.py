"""The services: each role is a package with a `__main__`; what they share lives at this level."""

__version__ = "0.1.0"
