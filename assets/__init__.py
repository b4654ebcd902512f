"""What mindsd carries with it: the embedded models and the recipes that make them."""
