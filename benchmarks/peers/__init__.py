"""Our accelerations beside unmodified peers: the parts of `python benchmarks/peers.py`."""
