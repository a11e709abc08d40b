"""Who may come in: the private certificate authority, the broker's folder, credentials of devices, and the check of
any broker.

Must stay true: whatever is secret is in a file that only its owner reads, and in no message, log or argument list.
"""
