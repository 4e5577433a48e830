"""What an action looks like in drawings and pages: its colour, in the light and in the dark, and its name in words."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np

SKIP = "#b8c0ca"
PRECISIONS = ("#43206f", "#1f6fb2", "#2fb58a")
"""From the most expensive precision to the cheapest; dark to light, so that it is readable without colours."""
WHITE, BLACK = "#ffffff", "#10141a"  # inks on a colour


def action_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each action: precisions dark to light as they get cheaper, skips grey."""
    processed = [name for name in names if not name.startswith("skip")]
    places = np.linspace(0, 1, len(processed)) if len(processed) > 1 else np.zeros(1)
    stops = np.array([_channels(colour) for colour in PRECISIONS])
    channels = np.stack([np.interp(places, np.linspace(0, 1, len(stops)), each) for each in stops.T], axis=-1)
    colours = {name: _hex(rgb.tolist()) for name, rgb in zip(processed, channels, strict=False)}
    return {name: colours.get(name, SKIP) for name in names}


def action_label(name: str) -> str:
    """An action in words: ``8 bits at 112``, ``skipped``."""
    if name.startswith("skip"):
        return "skipped" if name == "skip" else f"skip {name[4:]}"
    bits, _, size = name.partition("@")
    if size:
        return f"{bits} bits at {size}"
    return "32 bits (float network)" if name.endswith("fp") else f"{name} bits"


def light_dark(colour: str) -> str:
    """The CSS of a colour that is as visible on a dark page as on a light one.

    >>> light_dark("#1d2733")
    'light-dark(#1d2733, #c3cfdd)'
    """
    return f"light-dark({colour}, {in_the_dark(colour)})"


def in_the_dark(colour: str) -> str:
    """The colour with its lightness turned round: ink becomes nearly white, white nearly black."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in _channels(colour)))
    rgb = colorsys.hls_to_rgb(hue, 0.94 - 0.8 * lightness, saturation)
    return _hex(255 * channel for channel in rgb)


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on the colour (WCAG's contrast)."""
    light = luminance(colour)
    return WHITE if 1.05 / (light + 0.05) > (light + 0.05) / (luminance(BLACK) + 0.05) else BLACK


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, 0 (black) to 1 (white)."""
    scaled = np.array(_channels(colour)) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _hex(rgb: Iterable[float]) -> str:
    return "#" + bytes(round(channel) for channel in rgb).hex()
