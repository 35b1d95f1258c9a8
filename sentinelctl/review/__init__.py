"""`sentinelctl review`: a change of a local repository, the model's findings in it, and the ways to show them."""
