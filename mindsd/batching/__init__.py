"""Calls of suspended requests: what they ask, how they are stacked, which group runs next."""
