"""Mesh knows which agents there are and where."""
