"""The page: the fleet, its devices, groups and rollouts in a browser, live; extra `web`.

It reads and acts through the library alone, so that it can nothing that a program could not.
"""
