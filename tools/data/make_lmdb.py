"""Pack extracted frames into one LMDB, which MMAction2 reads with ``RawFrameDecode(io_backend="lmdb")``.

python tools/data/make_lmdb.py FRAMES OUT.lmdb        (pip install lmdb)

FRAMES holds a folder of images for each video, at any depth. Keys are the paths below FRAMES, such as
abc/img_00001.jpg; the images are stored as they are. Started again after an interruption, it goes on.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from rich.progress import track

    from mmvideoiq.data.lists import IMAGES

LARGEST = 1 << 42  # bytes that the file may grow to


def pack(frames: Path, out: Path) -> int:
    """Write the LMDB ``out``, atomically; returns the number of videos.

    Raises:
        ImportError: the package lmdb is missing.
        NotADirectoryError, FileExistsError: no such folder, ``out`` is there.
        ValueError: no images, or a name that is not ASCII, which MMAction2's reader needs.
    """
    try:
        import lmdb
    except ImportError:
        raise ImportError("the package lmdb is missing: pip install lmdb") from None
    if not frames.is_dir():
        raise NotADirectoryError(f"{frames} is not a folder")
    if out.exists():
        raise FileExistsError(f"{out} is there; remove it, or name another")
    videos = sorted(Path(root) for root, _, names in os.walk(frames) if any(map(_is_image, names)))
    if not videos:
        raise ValueError(f"no images ({', '.join(IMAGES)}) in {frames}")
    odd = next((video for video in videos if not str(video.relative_to(frames)).isascii()), None)
    if odd is not None:
        raise ValueError(f"{odd} is not an ASCII name, which MMAction2's LMDB reader needs; rename it")
    part = out.with_name(f"{out.name}.part")
    with lmdb.open(str(part), map_size=LARGEST) as environment:
        for video in track(videos, description="packing videos"):
            images = sorted(path for path in video.iterdir() if _is_image(path.name))
            keys = [path.relative_to(frames).as_posix().encode("ascii") for path in images]
            with environment.begin(write=True) as transaction:  # all of a video or nothing
                if transaction.get(keys[-1]) is None:
                    for key, path in zip(keys, images, strict=True):
                        transaction.put(key, path.read_bytes())
    part.rename(out)
    return len(videos)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", metavar="FRAMES", type=Path)
    parser.add_argument("out", metavar="OUT.lmdb", type=Path)
    args = parser.parse_args()
    print(f"{pack(args.frames, args.out):,} videos -> {args.out}")


if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        main()
