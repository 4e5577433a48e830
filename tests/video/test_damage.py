"""Damaged files: no hang, no crash of the caller, and no wrong frame that is not counted as lost.

A returned frame is intact if it equals, bit for bit, one of the undamaged file. It is wrong if it is not intact,
or is another one than the file shows at that place: then ``lost`` counts it. FFmpeg does not notice all damage, since
a flipped bit may leave a valid stream of other pictures: of VP9 nearly always, of the others seldom.
"""

from collections import Counter
from concurrent.futures import TimeoutError
from pathlib import Path

import av
import pytest
from pebble import ProcessExpired, ProcessPool

from mmvideoiq.data.probe import CONTEXT
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.reader import sample_indices
from tests.video.damage import KINDS, mutations
from tests.video.odd import write

Read = tuple[int, list[tuple[int, float | None, bytes]]]


def read(path: str, frames: int) -> Read | str:
    """In a process of its own: frames lost, and each frame with place and seconds; or the reason of an error."""
    try:
        reader = AvReader(path, time_limit_s=20)
        places = sorted(set(sample_indices(len(reader), frames).tolist()))
        images = reader.read(places)
    except VideoError as error:
        assert "\n" not in error.reason
        return error.reason
    times = reader.listing.times
    seconds = [None if times is None else round(times[place] * reader.time_base, 2) for place in places]
    return reader.lost, list(zip(places, seconds, [image.tobytes() for image in images], strict=True))


def wrong(found: Read, original: Read, *, timed: bool) -> int:
    """How many frames are not intact, or not those of their place: their order and, in a ``timed`` file, their time."""
    numbers = {image: number for number, (_, _, image) in enumerate(original[1])}
    at = {seconds: number for number, (_, seconds, _) in enumerate(original[1])} if timed else {}
    count, last = 0, -1
    for _, seconds, image in found[1]:
        number = numbers.get(image)
        if number is None or number <= last or at.get(seconds, number) != number:
            count += 1
        else:
            last = number
    return count


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_damage_is_counted_or_an_error(tmp_path: Path, count):
    files = list(mutations(tmp_path, count))
    original = {kind: read(str(tmp_path / kind), 1000) for kind, _, _ in files}
    assert all(lost == 0 and len(frames) == 150 for lost, frames in original.values())
    frames, errors, unnoticed = 0, Counter(), Counter()
    with ProcessPool(2, context=CONTEXT) as pool:
        jobs = [pool.schedule(read, (str(path), 16), timeout=60) for _, _, path in files]
    for (kind, _, path), job in zip(files, jobs, strict=True):
        try:
            found = job.result()
        except (TimeoutError, ProcessExpired) as error:
            pytest.fail(f"{path.name}: {error!r}")
        if isinstance(found, str):
            errors[found] += 1
        else:
            frames += len(found[1])
            unnoticed[kind] += max(0, wrong(found, original[kind], timed=path.suffix != ".avi") - found[0])
    assert 0 < errors.total() < count / 3 and frames > 8 * count
    del unnoticed["vp9.webm"]
    assert unnoticed.total() < 0.01 * frames, unnoticed


def test_what_follows_an_error_is_lost_up_to_the_next_key_frame(tmp_path: Path):
    write(tmp_path / "a.mp4", KINDS["h264.mp4"])
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as container:
        places = [(packet.pos, packet.size, packet.is_keyframe) for packet in container.demux(video=0)]
    key = [number for number, (_, _, is_key) in enumerate(places) if is_key][1]  # packet and frame 24
    begin, size, _ = places[key]
    data[begin + size // 2 : begin + size] = bytes(size - size // 2)
    (tmp_path / "b.mp4").write_bytes(data)
    reader = AvReader(tmp_path / "b.mp4")
    for places, lost in (([0, 20], 0), ([24, 30, 47], 3), ([48, 100], 0)):
        for sampling in ("exact", "nearby"):
            reader.read(places, sampling=sampling)
            assert reader.lost == lost, (places, sampling)
    reader.read(range(150))
    assert 24 <= reader.lost <= 26  # two frames before may have been decoded after it
