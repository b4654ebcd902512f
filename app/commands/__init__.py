"""One file for each command of `mindsd`."""
