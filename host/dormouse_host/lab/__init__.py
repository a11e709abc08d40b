"""What is tried and measured: the demo, the energy estimate, the bench."""
