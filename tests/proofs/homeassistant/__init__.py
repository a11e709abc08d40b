"""The real Home Assistant, in a folder of its own, beside a real broker, relay and device."""
