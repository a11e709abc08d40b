"""The command line: each file is a group of commands; app.py puts them together."""
