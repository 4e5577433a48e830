"""Clips: synthetic ones whose right policy is known, a user's own folder, published lists, a dataset with checks.

Importing the package is light; ``mmvideoiq.data.dataset`` registers the dataset with the host.
"""
