"""Relay carries what agents say to each other."""
