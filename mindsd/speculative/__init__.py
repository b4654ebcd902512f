"""Guesses of how texts go on, verified by the model that they are for: speculative decoding."""
