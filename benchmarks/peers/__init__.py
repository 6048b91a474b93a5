"""What a user would pick instead, each set to sync what it acknowledges."""
