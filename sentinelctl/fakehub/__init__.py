"""A GitHub for the laptop: serves local git repositories through GitHub's REST routes, and refuses what GitHub refuses.

It is the independent witness of the pipeline: it shares no code with the services or the model, reads its hunks from
`git diff`, and writes down when each review became visible. It never writes into a repository it serves: pull
requests and branches of its own are kept in memory.
"""
