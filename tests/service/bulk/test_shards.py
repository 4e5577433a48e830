"""The plan and the shards: made once, refused to others, each row once, nothing done twice."""

import json
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from mmvideoiq.service.bulk.plan import OtherRun, Settings, open_plan
from mmvideoiq.service.bulk.shards import Shards, failed
from mmvideoiq.service.bulk.stages import RESULT, failed_row

SETTINGS = dict(
    bundle="b" * 8, engine="openvino", float_precision="f32", budget=None, sampling="exact", reader="av"
)


def make_plan(folder, videos, *, size=4, sources=("videos",), data_root=None, **changed):
    settings = Settings(**{**SETTINGS, **changed}, shard_size=size)
    given = dict(sources=sources, column="path", data_root=data_root, settings=settings)
    return open_plan(folder, **given, find=lambda _: videos)


def good(*places):
    rows = [
        dict(place=place, label=f"class {place % 3}", label_index=place % 3, score=0.5, scores=[0.5, 0.5])
        | dict(actions=["8", "skip"], cost=0.5, frames=2, lost=0, decode_ms=1.0, recognize_ms=2.0)
        for place in places
    ]
    return pa.Table.from_pylist(rows, RESULT)


@pytest.fixture
def plan(tmp_path):
    return make_plan(tmp_path / "out", [f"/v/{number}.mp4" for number in range(10)])


def test_a_plan_is_made_once(plan, tmp_path):
    again = make_plan(tmp_path / "out", ["/another.mp4"])
    assert again.digest == plan.digest and len(again) == 10 and again.path(7) == "/v/7.mp4"
    assert [list(plan.places(shard)) for shard in range(plan.shards)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9],
    ]  # fmt: skip


def test_names_that_are_no_text(tmp_path):
    odd = os.fsdecode(b"/v/\xff\xfe.mp4")
    plan = make_plan(tmp_path / "out", [odd, "http://me:secret@host/v.mp4"], size=2)
    assert plan.path(0) == odd
    Shards(plan).take(good(0, 1))
    rows = parquet.read_table(tmp_path / "out/results/00000.parquet")
    assert rows["path"].to_pylist() == ["/v/\\udcff\\udcfe.mp4", "http://me:***@host/v.mp4"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(budget="0.4"), r"its budget: None, given: 0\.4"),
        (dict(bundle="other"), "it was made by another bundle"),
        (dict(size=5), "its shard size: 4, given: 5"),
        (dict(sources=("/more",)), r"its sources: \S+/videos, given: /more"),
        (dict(data_root="/v"), "its --data-root: None, given: /v"),
        (dict(float_precision="bf16"), "its float precision: f32, given: bf16"),
    ],
)
def test_another_run_is_refused(plan, tmp_path, changed, said):
    with pytest.raises(OtherRun, match=rf"out holds another run \({said}\): give what it was begun with, or"):
        make_plan(tmp_path / "out", [], **changed)


def test_a_run_without_a_data_root_goes_on_with_the_plan_of_an_earlier_version(plan, tmp_path):
    manifest = tmp_path / "out/manifest.json"
    known = json.loads(manifest.read_text())
    del known["given"]["data_root"]
    manifest.write_text(json.dumps(known))
    assert make_plan(tmp_path / "out", []).digest == plan.digest


def test_a_list_that_changed_is_another_run(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4\n")
    sources = [str(tmp_path / "list.txt")]
    make_plan(tmp_path / "out", ["/a.mp4"], sources=sources)
    make_plan(tmp_path / "out", ["/a.mp4"], sources=sources)
    (tmp_path / "list.txt").write_text("b.mp4\n")
    with pytest.raises(OtherRun, match="a list has changed since"):
        make_plan(tmp_path / "out", ["/a.mp4"], sources=sources)


def test_a_folder_of_something_else_is_refused(plan, tmp_path):
    manifest = tmp_path / "out/manifest.json"
    (tmp_path / "out/plan.parquet").write_bytes(b"")
    with pytest.raises(OtherRun, match=r"plan\.parquet is not the plan that manifest\.json names"):
        make_plan(tmp_path / "out", [])
    manifest.write_text(json.dumps({"version": 1}))
    with pytest.raises(OtherRun, match="is not of this version of mmvideoiq bulk"):
        make_plan(tmp_path / "out", [])
    manifest.write_text(json.dumps({"format": 1, "given": [], "videos": 0, "plan": ""}))
    with pytest.raises(OtherRun, match="is not of this version of mmvideoiq bulk"):
        make_plan(tmp_path / "out", [])
    manifest.write_text("{")
    with pytest.raises(OtherRun, match=r"manifest\.json is empty, cut short .*: choose another --out$"):
        make_plan(tmp_path / "out", [])
    manifest.unlink()
    Shards(plan).take(good(8, 9))
    with pytest.raises(OtherRun, match=r"holds results but no manifest\.json"):
        make_plan(tmp_path / "out", [])


def test_a_shard_is_written_when_it_is_whole_with_its_rows_in_order_and_once_each(plan):
    shards = Shards(plan)
    assert shards.take(good(5, 9, 1)) == [] and shards.take(good(0, 5, 2, 1)) == []
    assert shards.videos_done == 5 and list(shards.missing()) == [3, 4, 6, 7, 8]
    assert not any((plan.folder / "results").iterdir())
    assert shards.take(good(3, 0, 6, 7, 6, 4)) == [0, 1]
    assert shards.take(good(0, 4)) == []  # a late double of a written shard
    for shard in (0, 1):
        table = parquet.read_table(plan.folder / f"results/0000{shard}.parquet")
        assert table["place"].to_pylist() == list(plan.places(shard))
        assert table["path"].to_pylist() == [f"/v/{place}.mp4" for place in plan.places(shard)]
        assert table.column_names == ["place", "path", *RESULT.names[1:]]
        assert table.drop_columns("path").schema.remove_metadata() == RESULT
    assert sorted(os.listdir(plan.folder / "results")) == ["00000.parquet", "00001.parquet"]
    again = Shards(plan)
    assert again.done == {0, 1} and list(again.missing()) == [8, 9]


def test_what_a_killed_process_left_and_a_damaged_shard_are_done_again(plan):
    Shards(plan).take(good(*range(10)))
    results = plan.folder / "results"
    (results / ".00001.77.part.parquet").write_bytes(b"PAR1")
    (results / "00000.parquet").write_bytes((results / "00000.parquet").read_bytes()[:-9])
    os.replace(results / "00001.parquet", results / "00002.parquet")  # of other rows
    shards = Shards(plan)
    assert shards.done == set() and list(shards.missing()) == list(range(10))
    assert not list(results.glob(".*"))


def test_a_damaged_footer_is_done_again_and_damaged_rows_are_named(plan):
    shards = Shards(plan)
    shards.take(good(*range(10)))
    footer, rows = shards.file(0), shards.file(1)
    for file, into in ((footer, "footer"), (rows, "rows")):
        content = file.read_bytes()
        begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # of the footer
        start, end = (begin, len(content) - 8) if into == "footer" else (4, begin)
        file.write_bytes(content[:start] + bytes([255] * (end - start)) + content[end:])
    shards = Shards(plan)
    assert shards.done == {1, 2}
    said = r"results/00001\.parquet is damaged \(.+\): delete it, and start again to do its videos again"
    with pytest.raises(ValueError, match=said):
        shards.columns(1, ["place", "path", "cost"])
    with pytest.raises(ValueError, match=said):
        Shards(plan, retry_errors=True)
    rows.unlink()
    assert Shards(plan).done == {2}


def test_errors_alone_are_retried(plan):
    Shards(plan).take(pa.concat_tables([good(0, 2, 3, 4, 5, 6, 7), failed([failed_row(1, "is empty")])]))
    assert Shards(plan).done == {0, 1}
    shards = Shards(plan, retry_errors=True)
    assert shards.done == {1} and list(shards.missing()) == [1, 8, 9]
    assert shards.take(good(1)) == [0]
    table = parquet.read_table(plan.folder / "results/00000.parquet")
    assert table["error"].null_count == 4 and table["label_index"].to_pylist() == [0, 1, 2, 0]
