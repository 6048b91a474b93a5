"""The pages, one file a group: each asks operations and hands what a view makes of them to a template."""
