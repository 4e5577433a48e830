"""From files, cameras and streams to frames."""
