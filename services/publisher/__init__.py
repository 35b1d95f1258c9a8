"""Turns findings into one review on GitHub, once."""
