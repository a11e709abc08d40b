"""Brokers: those that run here, the folder of one for field trials, credentials, and MQTT clients."""
