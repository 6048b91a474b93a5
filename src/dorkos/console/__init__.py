"""The web console: server-rendered pages over the operations that every other surface uses."""
