"""Where training data comes from: one source of history a module."""
