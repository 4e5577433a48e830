"""Clips: synthetic ones whose right policy is known, a user's own folder, a dataset with checks."""

from mmvideoiq.data.dataset import CheckedVideoDataset

__all__ = ["CheckedVideoDataset"]
