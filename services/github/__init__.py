"""GitHub as the services need it: the few endpoints used, its limits, and its errors sorted by what to do next."""
