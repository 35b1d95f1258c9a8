"""The log as people look at it and put things back into it, on whichever implementation there is."""
