"""Measurements, each from one command: open-loop load, backlogs, ours beside a control, and the report of all."""
