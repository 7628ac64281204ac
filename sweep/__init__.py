"""Hyperparameter sweeps for the Hugging Face Trainer: launch, resume, export the best model."""

__version__ = "0.1.0"
