"""The MCP face: every operation that has a tool, for agents that speak the Model Context Protocol."""
