"""3a. How bits are given to tensors: sensitivities from measurements, and what a size can reach."""
