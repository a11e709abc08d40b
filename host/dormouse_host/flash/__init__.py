"""A board at a cable: flashed, watched, diagnosed, given a firmware."""
