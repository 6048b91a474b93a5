"""DorkOS: the layer under the AI agents you run (Pulse, Relay and Mesh over one database)."""

__version__ = "0.1.0"
