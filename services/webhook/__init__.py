"""The webhook receiver: checks a delivery, appends it to the log, then answers 202."""
