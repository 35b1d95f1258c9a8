"""Triage: a human's review comment and the hunk it stands on, to the severity and category of its words."""
