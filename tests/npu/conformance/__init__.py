"""What other projects get wrong on a simulated NPU, as a table."""
