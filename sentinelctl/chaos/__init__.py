"""Faults under load, on a stack of the run's own, with an account of every delivery."""
