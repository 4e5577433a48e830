"""Metafiles: what is read from them, and what is wrong with them."""

import jsonschema
import pytest
import yaml

from mmvideoiq import zoo
from mmvideoiq.zoo import index, store
from tests.zoo.server import entry

TEXT, OBJECT = {"type": "string", "minLength": 1}, {"type": "object"}


def closed(required: str, **properties) -> dict:
    """A mapping of these keys alone, ``required`` among them."""
    named = {name.replace("_", " "): value for name, value in properties.items()}
    return OBJECT | dict(properties=named, required=required.split(", "), additionalProperties=False)


def many(items: dict) -> dict:
    return dict(type="array", items=items, minItems=1)


# Keys of a metafile that are used here (github.com/paperswithcode/model-index, docs/2_datamodels), read by OpenMIM.
PAPER = closed("Title, URL", Title=TEXT, URL=TEXT)
METRICS = OBJECT | dict(additionalProperties={"type": "number"}, minProperties=1)
RESULT = closed("Task, Dataset, Metrics", Task=TEXT, Dataset=TEXT, Metrics=METRICS)
MODEL = closed(
    "Name, In Collection, Config", Name=TEXT, In_Collection=TEXT, Config=TEXT, Metadata=OBJECT, Weights=TEXT
)
MODEL["properties"]["Results"] = many(RESULT)
COLLECTION = closed("Name, README", Name=TEXT, README=TEXT, Paper=PAPER, Metadata=OBJECT)
METAFILE = closed("Models", Collections=many(COLLECTION), Models=many(MODEL))


def test_names(shelf):
    shelf.publish(entry("demo_videoiq"), entry("demo_float"), entry("r50_float"))
    assert zoo.list_models() == ["demo_float", "demo_videoiq", "r50_float"]
    assert zoo.list_models("demo*") == ["demo_float", "demo_videoiq"]
    with pytest.raises(ValueError, match="no model 'demo_vidoiq' in the zoo; closest: demo_videoiq"):
        zoo.download("demo_vidoiq")
    with pytest.raises(ValueError, match=r"mmvideoiq zoo list shows them all"):
        zoo.load("%")


SHA = dict(SHA256="0" * 64)
WRONG = [  # what changes in an entry, the message
    (dict(Config=None), "Config must be a text, got None"),
    (dict(Config="configs/toy/no.py"), "Config configs/toy/no.py does not exist"),
    (dict(In_Collection="Toy"), r"In Collection 'Toy' is none of \['Toys'\]"),
    (dict(Weights="a.pth"), "Weights need Metadata SHA256, 64 hexadecimal digits, got ''"),
    (dict(Weights="a.pth", Metadata=dict(SHA256="0123abcd")), "Weights need .* got '0123abcd'"),
    (dict(Weights="a.pth", Metadata=SHA), "Weights need Metadata Size, their bytes, got 0"),
    (dict(Weights="a.pth", Metadata=SHA | dict(Size="big")), "Weights need Metadata Size, .* got 'big'"),
    (dict(Weights="ftp://a/b.pth", Metadata=SHA), "Weights must be .* http or https, got ftp://a/b.pth"),
    (dict(Weights=["a.pth"]), "Weights must be a text"),
    (dict(Metadata=["a"]), "Metadata must be a mapping"),
    (dict(Results={"Task": "x"}), "Results must be a list"),
    (dict(Results=[{"Task": "x", "Dataset": "y", "Metrics": 3}]), "Results must be a list"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_entries(shelf, changes, message):
    shelf.publish(entry("toy", **changes))
    with pytest.raises(ValueError, match=f"configs/toy/metafile.yml: model 'toy': {message}"):
        zoo.list_models()


def test_wrong_files(shelf):
    shelf.publish(entry("toy"), entry("toy"))
    with pytest.raises(ValueError, match="model 'toy' stands in the zoo twice"):
        zoo.list_models()
    shelf.publish({"Config": "configs/toy/toy.py"})
    with pytest.raises(ValueError, match=r"configs/toy/metafile\.yml: Name must be a text, got None"):
        zoo.list_models()
    (shelf.root / index.INDEX).write_text("Import: [3]")
    with pytest.raises(ValueError, match=r"model-index\.yml: Import must be a list of paths, got 3"):
        zoo.list_models()
    (shelf.root / index.INDEX).write_text("Import: [configs/toy/metafile.yml]")
    (shelf.root / "configs/toy/metafile.yml").write_text("Models: [")
    with pytest.raises(ValueError, match=r"metafile\.yml is not YAML"):
        zoo.list_models()


def test_an_installation_without_configs_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "__file__", str(tmp_path / "mmvideoiq/zoo/index.py"))
    with pytest.raises(FileNotFoundError, match="installed without its configs"):
        index.root()
    (tmp_path / "mmvideoiq/.mim").mkdir(parents=True)
    (tmp_path / "mmvideoiq/.mim" / index.INDEX).touch()
    assert index.root() == tmp_path / "mmvideoiq/.mim"


def test_the_zoo_of_this_repository(repo):
    """Its metafiles are valid for OpenMIM and all named in the index; what it ships is complete, of the size given."""
    named = yaml.safe_load((repo / index.INDEX).read_text())["Import"]
    assert named == sorted(path.relative_to(repo).as_posix() for path in repo.glob("configs/*/metafile.yml"))
    assert index.root() == repo
    for path in named:
        content = yaml.safe_load((repo / path).read_text())
        jsonschema.validate(content, METAFILE)
        for collection in content["Collections"]:
            assert (repo / path).with_name(collection["README"]).is_file()
    for model in index.read().values():
        if store.state(model) == "shipped":
            assert zoo.download(model.name).is_relative_to(repo)
            assert (repo / model.weights).stat().st_size == model.size
