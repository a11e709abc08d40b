"""The agent on this computer: the programs it needs, its compiled form, its process, and Linux as a device."""
