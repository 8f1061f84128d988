"""5. What we say about it."""
