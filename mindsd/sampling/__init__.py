"""Logits to tokens for rows with different parameters, and tokens to text."""
