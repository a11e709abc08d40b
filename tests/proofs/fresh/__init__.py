"""`make fresh`: the README's two commands on a machine that has nothing but git, make and Python 3."""
