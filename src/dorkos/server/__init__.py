"""The HTTP faces of the operations."""
