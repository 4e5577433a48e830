"""How many processes read ahead."""

from mmvideoiq.video import decode_ahead
from mmvideoiq.video.decode_ahead import decoders_for


def test_as_many_decoders_as_keep_up_with_recognition(monkeypatch):
    monkeypatch.setattr(decode_ahead, "usable_cpus", lambda: 8)

    def times(decode: float) -> list[dict[str, float]]:
        first = dict(decode=9.0, policy=9.0, recognition=99.0)
        return [first, *[dict(decode=decode, policy=0.1, recognition=0.4)] * 4]

    assert [decoders_for(times(decode)) for decode in (0.1, 0.5, 0.6, 1.4, 99.0)] == [1, 1, 2, 3, 8]
