"""What lies at a path: model folders, the embedded models, safe loading."""
