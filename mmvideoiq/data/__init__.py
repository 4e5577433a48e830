"""Clips: synthetic ones with a known right policy, a user's own folder, published lists, datasets with checks.

Importing the package is light; ``mmvideoiq.data.dataset`` registers the dataset with MMAction2.
"""
