"""Runtimes start an agent's turn and stream what it says."""
