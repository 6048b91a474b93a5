"""Pulse decides when agents run."""
