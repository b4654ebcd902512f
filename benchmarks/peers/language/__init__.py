"""Our language path beside unmodified peers: the parts of `python benchmarks/language_peers.py`."""
