"""From a trained recognizer to a bundle: the one room of ``deploy`` that needs torch and MMAction2."""

from mmvideoiq.deploy.export.recognizer import Preprocessing, export
from mmvideoiq.deploy.export.trace import ExportError

__all__ = ["ExportError", "Preprocessing", "export"]
