"""Load and timings, each from one command that prints how it was got."""
