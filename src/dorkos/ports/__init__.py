"""What Mesh asks of Pulse and Relay, answered from their tables; wired by the composition root."""
