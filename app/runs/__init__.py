"""Runs of `mindsd batch`: a file of prompts to a folder of pictures, resumed where it stopped."""
