"""Bringing over what DorkOS for Node left behind: its databases, JSON files and mailboxes."""
