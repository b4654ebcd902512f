"""The faces: what people touch."""
