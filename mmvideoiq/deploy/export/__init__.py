"""From a trained recognizer to a bundle: the one room of ``deploy`` that needs torch and the host."""

from mmvideoiq.deploy.export.recognizer import Preprocessing, export
from mmvideoiq.deploy.export.trace import ExportError

__all__ = ["ExportError", "Preprocessing", "export"]
