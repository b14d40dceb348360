"""What the codes of a model stand for, measured."""
