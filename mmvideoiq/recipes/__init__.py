"""Trainings of several stages."""
