"""What a broker does with sleeping devices: tried on it, and said in findings."""
