"""Rows: trained models, tested and timed beside one another."""
