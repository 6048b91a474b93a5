"""What an operation costs with a thousand rows stored, and with a million."""
