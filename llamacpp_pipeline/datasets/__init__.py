"""3b. Calibration and evaluation data."""
