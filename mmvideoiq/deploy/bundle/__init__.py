"""The bundle: the folder that export writes and the runtime opens."""

from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError, Layer

__all__ = ["Bundle", "BundleError", "Layer"]
