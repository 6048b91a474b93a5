"""How each product marks a project on disk."""
