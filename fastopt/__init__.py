"""fastopt: compiled first-order optimizers for large linear models."""
__version__ = "0.1.0"
