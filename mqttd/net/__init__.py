"""Twisted transports: listeners, factories, protocols, limits, TLS."""
