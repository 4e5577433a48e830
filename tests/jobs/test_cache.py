"""Results are used again while nothing that they depend on has changed."""

import pytest

from mmvideoiq.jobs import cache


def test_a_result_is_found_again_with_its_hash_alone(tmp_path):
    path, hash = tmp_path / "deep/state.json", cache.hash_of({"a": 1, "b": [tmp_path]}, "text")
    assert hash == cache.hash_of({"b": [str(tmp_path)], "a": 1}, "text")
    assert cache.load(path, hash) is None
    stored = cache.store(path, hash, result={"top1": 0.5})
    assert stored == cache.load(path, hash) == {"hash": hash, "result": {"top1": 0.5}}
    assert cache.load(path, cache.hash_of({"a": 2}, "text")) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}"])
def test_a_damaged_result_is_none(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    assert cache.load(tmp_path / "state.json", "0") is None


def test_changed_files_are_named(tmp_path):
    files = [tmp_path / name for name in "ab"]
    for path in files:
        path.write_text(path.name)
    known = cache.digests(files)
    assert cache.changed(known) is None
    files[1].write_text("c")
    assert cache.changed(known) == str(files[1])
    files[0].unlink()
    assert cache.changed(known) == str(files[0])
