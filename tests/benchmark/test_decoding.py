"""``tools/benchmark.py decode`` on a small video."""

import json

from mmvideoiq.benchmark.decoding import Film, film_to


def test_decode_measures_each_way_to_read(load_tool, tmp_path):
    film, out = tmp_path / "film.mp4", tmp_path / "out.json"
    film_to(film, Film(frames=40, width=64, height=48, key_every=20), lambda: None)
    load_tool("benchmark.py").main(["decode", str(film), "--frames=4", "--repeats=2", f"--json={out}"])
    rows = json.loads(out.read_text())["rows"]
    ways = [("decord", 1), *((mode, n) for n in (1, 2) for mode in ("exact", "nearby", "keyframe"))]
    assert [(row["sampling"], row["threads"]) for row in rows] == ways
    assert rows[0]["ratio"] == rows[0]["processor_ratio"] == 1.0
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in rows)
