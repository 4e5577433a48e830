"""Names in braces."""

from mmvideoiq.recipes.placeholders import fill


def test_fill_reaches_every_string_and_leaves_other_braces():
    value = {"a": "{float}", "b": ["x/{float}/y", ("{work_dir}", 3)], "c": "{other} {}"}
    filled = fill(value, {"float": "f.pth", "work_dir": "w"})
    assert filled == {"a": "f.pth", "b": ["x/f.pth/y", ("w", 3)], "c": "{other} {}"}
    assert fill("{float}", {"float": None}) is None
