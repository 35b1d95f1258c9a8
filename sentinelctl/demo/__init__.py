"""The main job on one machine: real commits in, reviews out, with an account of every delivery."""
