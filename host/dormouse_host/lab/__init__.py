"""Demonstrations and measurements: the demo, the bench, energy and sizes."""
