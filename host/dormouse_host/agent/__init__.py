"""The agent on this machine: its interpreters, how it is compiled, and its processes."""
