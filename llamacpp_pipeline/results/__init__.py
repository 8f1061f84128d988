"""4. What came out."""
