"""Tables of models: what a row says, and that the shipped files hold what the metafiles say."""

from types import SimpleNamespace

import pytest
import yaml

from mmvideoiq.zoo import index, tables


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Three models in two folders, and a README with a table of one of them."""
    (tmp_path / "configs/toy").mkdir(parents=True)
    (tmp_path / "configs/other").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/a.pth").touch()
    for name in ("toy/a", "toy/b", "other/c"):
        (tmp_path / f"configs/{name}.py").touch()

    def model(name: str, config: str, **more) -> dict:
        return {"Name": name, "In Collection": "Toys", "Config": f"configs/{config}.py", **more}

    def row(dataset: str, **metrics) -> dict:
        return dict(Task="Action Recognition", Dataset=dataset, Metrics=metrics)

    sha = {"SHA256": "0" * 64, "Size": 1}
    models = [
        model(
            "a", "toy/a", Weights="weights/a.pth", Metadata=sha, Results=[row("x", Top=9.5), row("y", Cost=1)]
        ),
        model("b", "toy/b", Metadata={"Training Data": ["x", "y|z"]}),
        model("c", "other/c", Weights="https://w/m/manifest.json", Metadata=sha),
    ]
    content = {"Collections": [{"Name": "Toys"}], "Models": models}
    (tmp_path / "metafile.yml").write_text(yaml.safe_dump(content))
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<!-- zoo configs/toy/* -->\n",
            "<!-- zoo configs/toy/* --> lacks its end: add a line <!-- end of zoo -->",
        ),
        ("<!-- zoo configs/toy/* -->\n<!-- zoo configs/toy/b* -->\n<!-- end of zoo -->", "lacks its end"),
        ("<!-- zoo configs/no/* -->\n<!-- end of zoo -->", "fits the config of no model in the zoo"),
    ],
)
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
