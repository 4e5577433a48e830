"""The page that all reports share."""

import os
from pathlib import Path

import pytest

from mmvideoiq.fileio import check_output
from mmvideoiq.visualization.environment import cpu_class, environment, environment_table
from mmvideoiq.visualization.page import (
    LIMIT,
    NAME_LENGTH,
    STEPS,
    fit,
    items,
    note,
    page,
    section,
    short,
    write_page,
)
from mmvideoiq.visualization.tables import html_table
from tests.visualization.html_page import ReportPage, columns_of


def test_a_page_of_sections_with_links_to_them():
    parts = [section(title, note(f"{title} & <more>")) for title in ("One", "The <second>", "3")]
    found = ReportPage(page("a <b>", "x & y", ["", *parts, section("nothing")]))
    assert found.title == "a <b>"
    assert found.texts["the-second"].split() == "The <second> The <second> & <more>".split()
    assert list(found.texts) == ["top", "one", "the-second", "3"]
    assert "x & y" in found.texts["top"] and found.source.count('href="#') == 3


def test_it_knows_light_dark_and_paper():
    style = page("t", "s", [])
    assert "color-scheme: light dark" in style and "@media print" in style and "light-dark(#" in style
    assert "<nav" not in style


def test_lines_and_cells_are_escaped_and_long_words_may_break():
    table = html_table([["a<b", "x & <i>"], ["path", "/tmp/a_<x>.py"]], wrapped=("path",))
    found = ReportPage(page("t", "s", [section("s", items(["<li>"]), table)]))
    assert found.tables["s"] == [[["a<b", "path"], ["x & <i>", "/tmp/a_<x>.py"]]]
    assert '<td class="wrap">/<wbr>tmp/<wbr>a_<wbr>&lt;x&gt;.py</td>' in found.source
    assert "<li>&lt;li&gt;</li>" in found.source


def test_names_are_shortened_in_the_middle():
    assert short("x" * NAME_LENGTH) == "x" * NAME_LENGTH
    name = short("a" * 500 + "b" * 500)
    assert len(name) == NAME_LENGTH and name.startswith("aaa") and name.endswith("bbb") and "…" in name


def test_the_best_thumbnails_that_fit_are_taken():
    def render(step):
        return "é" * (10 * step.height if step else 7)

    assert len(fit(render, limit=10**6)) == 10 * STEPS[0].height
    assert len(fit(render, limit=20 * STEPS[1].height)) == 10 * STEPS[1].height
    assert fit(render, limit=20 * STEPS[1].height - 1) == "é" * (10 * STEPS[2].height)
    assert fit(render, limit=14) == "é" * 7
    assert LIMIT == 3_000_000 and STEPS[-1] is None


def test_a_page_is_written_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    write_page(path, "old \udcff")  # a name that is not UTF-8
    assert path.read_text() == "old \\udcff"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_page(path, "new")
    assert path.read_text() == "old \\udcff" and os.listdir(tmp_path) == ["page.html"]


def test_where_nothing_can_be_written_is_said_at_once(tmp_path, monkeypatch):
    check_output("--report", tmp_path / "new.html")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    check_output("--report", tmp_path / "file")
    for path, message in (
        (tmp_path / "no" / "x.html", f"there is no folder {tmp_path / 'no'}"),
        (tmp_path / "file" / "x.html", f"there is no folder {tmp_path / 'file'}"),
        (tmp_path, "is a folder; name a file"),
        ("/dev/null", "is not a regular file; name a file"),
        ("/proc/x.html", "no file can be written to /proc ("),
    ):
        with pytest.raises(OSError) as refused:
            check_output("--report", Path(path))
        assert str(refused.value).startswith(f"--report {path}: {message}")
        assert "\n" not in str(refused.value)
    monkeypatch.chdir(tmp_path)
    check_output("--report", Path("x.html"))


def test_the_environment_says_what_matters_and_names_no_machine():
    found = environment()
    assert found["CPU class"] == cpu_class() and "VNNI" in cpu_class() and "bf16" in cpu_class()
    assert found["torch"].partition("+")[0].count(".") >= 2 and os.uname().nodename not in found.values()
    shown = ReportPage(page("t", "s", [section("e", environment_table({"device": "cpu <0>"}))]))
    assert dict(shown.tables["e"][0][1:]) == found | {"device": "cpu <0>"}


def test_columns_of_reads_a_table():
    assert columns_of([["a", "b"], ["1", "2"], ["3", "4"]]) == {"a": ["1", "3"], "b": ["2", "4"]}
