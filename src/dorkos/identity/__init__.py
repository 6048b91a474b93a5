"""Who may do what: tokens, callers and scopes."""
