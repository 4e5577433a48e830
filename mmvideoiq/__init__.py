"""mmvideoiq: dynamic-precision video recognition (arXiv:2108.10394) as a plugin of MMAction2."""

__version__ = "0.1.0"
