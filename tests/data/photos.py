"""Photos in the layout of the gestures, of plain colours."""

from pathlib import Path

import cv2
import numpy as np

from mmvideoiq.data.gestures import COLUMNS, SPLITS

SIGNALS = ("down", "land", "up")


def write_photos(folder: Path, *, size: tuple[int, int] = (320, 240)) -> Path:
    """Each photo has one colour of its own; room A has no idle photos."""
    (folder / "photos").mkdir(parents=True)
    lines = [",".join(COLUMNS)]
    levels = iter(np.random.default_rng(0).permutation(16**3))
    for split in SPLITS:
        for gesture in (*SIGNALS, "no_class"):
            for room in "B" if gesture == "no_class" else "AB":
                for i in range(14 if gesture == "no_class" else 6):
                    name = f"{split}_{gesture}_{room}{i}.jpg"
                    level = int(next(levels))
                    colour = [17 * (level >> shift & 15) for shift in (0, 4, 8)]
                    picture = np.full((size[1], size[0], 3), colour, np.uint8)
                    assert cv2.imwrite(str(folder / "photos" / name), picture)
                    lines.append(f"{name},{gesture},{room},{split}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder
