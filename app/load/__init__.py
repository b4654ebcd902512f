"""Loads a server as many users would, and tells how it held."""
