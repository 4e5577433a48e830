"""Files that appear whole or not at all."""

import pytest

from mmvideoiq.atomic import whole, write_text


def test_a_file_appears_at_the_end_alone_and_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "table.json"
    with whole(path) as part:
        part.write_text("{}")
        assert part.suffix == ".json" and part.parent == path.parent and not path.exists()
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [("table.json", "{}")]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), whole(path) as part:
        part.write_text("half of")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.json", "old")]
