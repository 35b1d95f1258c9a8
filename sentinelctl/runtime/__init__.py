"""Where services run: one protocol, one module per place."""
