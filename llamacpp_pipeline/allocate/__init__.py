"""3a. How bits are given to tensors. Empty until size targets arrive."""
