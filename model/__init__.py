"""The model: what it reads, how it is taught, and how its answers are served. Knows nothing of services."""
