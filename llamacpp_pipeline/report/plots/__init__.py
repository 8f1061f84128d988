"""Pictures beside the card, and the same data as CSV."""
