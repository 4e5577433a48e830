"""Which videos the arguments of bulk name."""

import os
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from mmvideoiq.jobs.errors import one_line
from mmvideoiq.service.bulk.sources import find_all


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.mp4", "a.MKV", "deep/below/c.webm", "deep/[x].mp4", "notes.md"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "videos"


def names(sources, **options):
    return [os.path.relpath(path, "videos") for path in find_all(sources, **options)]


def test_a_folder_is_the_videos_in_it_and_below_by_name(folder):
    found = find_all(["videos"])
    assert found == [str(folder / name) for name in ("a.MKV", "b.mp4", "deep/[x].mp4", "deep/below/c.webm")]


def test_files_globs_and_folders_stay_in_their_order_and_come_once(folder):
    assert names(["videos/b.mp4", "videos/*.M*", "videos"]) == [
        "b.mp4", "a.MKV", "deep/[x].mp4", "deep/below/c.webm",
    ]  # fmt: skip
    assert names(["videos/deep/[x].mp4"]) == ["deep/[x].mp4"]  # a file of that name comes before a glob
    assert names(["videos/**/*.webm"]) == ["deep/below/c.webm"]
    assert names(["videos/d*"]) == ["deep/[x].mp4", "deep/below/c.webm"]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(folder, monkeypatch):
    def refuses(path, scan=os.scandir):
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuses)
    with pytest.raises(ValueError, match=r"below: cannot be listed \(Permission denied\)"):
        find_all(["videos"])


def test_text_lists(folder):
    (folder / "list.txt").write_text(
        "# of ours\n\nb.mp4\n a.MKV 3 \ndeep/[x].mp4 1 2\nhttp://host/v.mp4?a=1\ngone 7.mp4\n"
    )
    found = find_all(["videos/list.txt"])
    assert found[:3] == [str(folder / name) for name in ("b.mp4", "a.MKV", "deep/[x].mp4")]
    assert found[3:] == ["http://host/v.mp4?a=1", str(folder / "gone 7.mp4")]


def test_relative_paths_begin_at_the_data_root(folder):
    (folder.parent / "lists").mkdir()
    (folder.parent / "lists/train.txt").write_text(
        f"a.MKV 3\ndeep/[x].mp4 1\n{folder}/b.mp4 0\ns3://b/k.mp4 2\n"
    )
    wanted = [str(folder / name) for name in ("a.MKV", "deep/[x].mp4", "b.mp4")]
    assert find_all(["lists/train.txt"], data_root="videos") == [*wanted, "s3://b/k.mp4"]
    assert find_all(["lists/train.txt"])[0] == str(folder.parent / "lists/a.MKV")
    assert find_all(["lists/train.txt"], data_root="s3://bucket/videos/")[:3] == [
        "s3://bucket/videos/a.MKV", "s3://bucket/videos/deep/[x].mp4", wanted[2],
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"^--data-root gone: there is no such folder$"):
        find_all(["lists/train.txt"], data_root="gone")
    with pytest.raises(
        ValueError, match=r"^--data-root is for lists \(.txt, .csv, .parquet\): leave it out$"
    ):
        find_all(["videos"], data_root="videos")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables(folder, kind):
    paths = ["b.mp4", "deep/x, y.mp4", f"{folder}/a.MKV", "s3://bucket/k.mp4"]
    if kind == "csv":
        rows = "\n".join(f'"{path}",{n}' for n, path in enumerate(paths))
        (folder / "t.csv").write_text(f"path,label\n{rows}\n", encoding="utf-8-sig")
    else:
        parquet.write_table(pa.table({"label": [0, 1, 2, 3], "path": paths}), folder / "t.parquet")
    assert find_all([f"videos/t.{kind}"]) == [
        str(folder / "b.mp4"), str(folder / "deep/x, y.mp4"), str(folder / "a.MKV"), "s3://bucket/k.mp4",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=rf"t\.{kind}: has no column 'file' but .*; name one by --column"):
        find_all([f"videos/t.{kind}"], column="file")


def test_a_bucket_by_folder_glob_and_list():
    import fsspec

    bucket = fsspec.filesystem("memory")
    for name in ("/bulk/b.mp4", "/bulk/deep/a.mkv", "/bulk/notes.md"):
        bucket.pipe(name, b"x")
    bucket.pipe("/bulk/list.txt", b"deep/a.mkv\nhttp://host/v.mp4\n../up.mp4\n/here.mp4\n")
    assert find_all(["memory://bulk"]) == ["memory:///bulk/b.mp4", "memory:///bulk/deep/a.mkv"]
    assert find_all(["memory://bulk/*.mp4"]) == ["memory:///bulk/b.mp4"]
    assert find_all(["memory://bulk/list.txt"]) == [
        "memory://bulk/deep/a.mkv", "http://host/v.mp4", "memory://up.mp4", "/here.mp4",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="memory://bulk/gone: there is no such file or folder"):
        find_all(["memory://bulk/gone"])


@pytest.mark.parametrize("source", ["memory://bulk", "memory://bulk/*.mp4", "memory://bulk/list.txt"])
def test_a_bucket_that_refuses_is_one_line_whatever_it_raises(source, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    class NoCredentials(Exception):
        """As those of S3: of no kind that Python has."""

    def refuses(*_args, **_options):
        raise NoCredentials("Unable to locate\ncredentials")

    for name in ("isdir", "glob", "cat_file"):
        monkeypatch.setattr(MemoryFileSystem, name, refuses)
    with pytest.raises(
        ValueError, match=r"cannot be (listed|read) \(Unable to locate credentials\)$"
    ) as caught:
        find_all([source])
    assert str(caught.value).startswith(source)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImportError, match=r"^gs://bucket: .*: pip install gcsfs$") as caught:
        find_all(["gs://bucket"])
    assert one_line(caught.value) == str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("videos/gone.mp4", "there is no such file or folder"),
        ("videos/gone.csv", r"cannot be read \(there is no such file\)"),
        ("http://127.0.0.1:1/list.txt", r"cannot be read \(Connect call failed"),
        ("videos/*.avi", "names no videos"),
        ("videos/empty", "names no videos"),
        ("videos/bad.parquet", "is not a Parquet file"),
        ("videos/hole.csv", "line 3 holds no path but ''"),
        ("rtsp://host/camera", "is a stream; mmvideoiq infer --stream reads it"),
        ("nothing://host/v.mp4", "Protocol not known"),
    ],
)
def test_what_names_no_videos_is_said_in_one_line(folder, source, said):
    (folder / "empty").mkdir()
    (folder / "bad.parquet").write_bytes(b"PAR1 no")
    (folder / "hole.csv").write_text("path,label\na.mp4,1\n,2\n")
    with pytest.raises(ValueError, match=f"{source.split('/')[-1].replace('*', '.')}: {said}") as caught:
        find_all([source])
    assert "\n" not in str(caught.value)
