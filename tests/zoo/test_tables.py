"""Tables of models: what a row says, and that the shipped files hold what the metafiles say."""

from types import SimpleNamespace

import pytest

from mmvideoiq.zoo import index, tables

METAFILE = f"""
Collections: [Name: Toys]
Models:
- {{Name: a, In Collection: Toys, Config: configs/toy/a.py, Weights: weights/a.pth, Metadata: &published
    {{SHA256: "{"0" * 64}", Size: 1}}, Results: [{{Task: t, Dataset: x, Metrics: {{Top: 9.5}}}},
    {{Task: t, Dataset: y, Metrics: {{Cost: 1}}}}]}}
- {{Name: b, In Collection: Toys, Config: configs/toy/b.py, Metadata: {{Training Data: [x, y|z]}}}}
- {{Name: c, In Collection: Toys, Config: configs/other/c.py, Weights: https://w/m/manifest.json, Metadata: *published}}
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Three models in two folders, and a README with a table of one of them."""
    for name in ("weights/a.pth", "configs/toy/a.py", "configs/toy/b.py", "configs/other/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "metafile.yml").write_text(METAFILE)
    (tmp_path / index.INDEX).write_text("Import: [metafile.yml]")
    readme = tmp_path / "configs/toy/README.md"
    readme.write_text("# Toys\n\n<!-- zoo configs/toy/* -->\nold\n<!-- end of zoo -->\n\nend\n")
    monkeypatch.setattr(index, "root", lambda: tmp_path)
    return SimpleNamespace(root=tmp_path, readme=readme)


TOYS = """# Toys

<!-- zoo configs/toy/* -->
| Model | Dataset | Top | Cost | Weights |
| --- | --- | --- | --- | --- |
| [a](a.py) | x | 9.5 |  | [checkpoint](../../weights/a.pth) |
| [a](a.py) | y |  | 1 | [checkpoint](../../weights/a.pth) |
| [b](b.py) | x, y&#124;z | not measured |  | none |
<!-- end of zoo -->

end
"""


def test_a_table_is_filled_once(zoo, load_tool, capsys):
    tool = load_tool("zoo_tables.py")
    assert tool.main(["--check"]) == 1
    assert capsys.readouterr().out == f"{zoo.readme}: is stale: run python tools/zoo_tables.py\n"
    assert "old" in zoo.readme.read_text()
    assert tool.main([]) == 0 and zoo.readme.read_text() == TOYS
    assert tool.main(["--check"]) == 0 and tool.main([]) == 0
    assert capsys.readouterr().out == f"{zoo.readme}: filled\n"


def test_several_tables_and_nothing_measured(zoo):
    mark = "<!-- zoo configs/other/* -->\n"
    text = f"{mark}{tables.END} between\n{mark}{tables.END}"
    rows = (
        "| Model | Dataset | Result | Weights |\n| --- | --- | --- | --- |\n"
        "| [c](configs/other/c.py) |  | not measured | [bundle](https://w/m/manifest.json) |\n"
    )
    done = f"{mark}{rows}{tables.END} between\n{mark}{rows}{tables.END}"
    assert tables.filled(text, zoo.root, index.read()) == done
    assert tables.filled("no table", zoo.root, index.read()) == "no table"


WRONG = [
    (
        "<!-- zoo configs/toy/* -->\n",
        "<!-- zoo configs/toy/* --> lacks its end: add a line <!-- end of zoo -->",
    ),
    ("<!-- zoo configs/toy/* -->\n<!-- zoo configs/toy/b* -->\n<!-- end of zoo -->", "lacks its end"),
    ("<!-- zoo configs/no/* -->\n<!-- end of zoo -->", "fits the config of no model in the zoo"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_markers_are_one_line(zoo, load_tool, capsys, text, message):
    zoo.readme.write_text(text)
    assert load_tool("zoo_tables.py").main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"zoo_tables.py: error: {zoo.readme}: ") and message in error
    assert error.count("\n") == 1 and zoo.readme.read_text() == text


def test_the_tables_of_this_repository(repo, load_tool, capsys):
    """README.md and the configs' READMEs say what the metafiles say: python tools/zoo_tables.py."""
    assert load_tool("zoo_tables.py").main(["--check"]) == 0, capsys.readouterr().out
    for path in (repo / "README.md", *repo.glob("configs/*/README.md")):
        if path.parent == repo or (path.parent / "metafile.yml").exists():
            assert tables.BEGIN.search(path.read_text()), f"{path} has no table"
