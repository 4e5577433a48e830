"""The stages of one training as one thing."""
