"""A trial of fifty boards at a hundred times the speed, and what is told of it: `make trial`."""
