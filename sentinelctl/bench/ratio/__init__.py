"""Ours beside a control in one run, in pairs, so that what else the machine does then weighs on both."""
