"""Request bodies and model loading: what runs through the engine."""
