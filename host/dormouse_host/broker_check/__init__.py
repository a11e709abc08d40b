"""`dormouse broker check`: tests what a broker does with sleeping devices and reports findings."""
