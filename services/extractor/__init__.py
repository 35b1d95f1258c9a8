"""Reads an event, gets what it changed from GitHub, has it reviewed by inference, and appends one ReviewReady."""
