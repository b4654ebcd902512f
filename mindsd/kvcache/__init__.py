"""The KV cache of language models: pages of tokens, counted, shared and found again."""
