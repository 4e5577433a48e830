"""Commands end the line of a frequent error with the section that explains it."""

import re
from email.message import Message

import pytest

from mmvideoiq.jobs import explained as module
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.explained import SECTIONS, explained
from tests.conftest import ROOT
from tests.test_docs import is_in_the_source


def anchors(page):
    """As mkdocs makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"[-\s]+", "-", each) for each in words}


@pytest.mark.parametrize("words", SECTIONS)
def test_the_message_and_its_section_exist(words):
    assert is_in_the_source(words)
    page, _, anchor = SECTIONS[words].partition("#")
    assert anchor in anchors(page)


def test_a_message_has_one_section():
    lines = [words.replace("…", "this") for words in SECTIONS]
    assert [explained(line) for line in lines] == [
        f"{line} (docs/{section})" for line, section in zip(lines, SECTIONS.values(), strict=True)
    ]


def test_the_line_of_a_command_ends_with_it(capsys):
    with pytest.raises(SystemExit), one_line_errors("infer"):
        raise ValueError("unknown engine 'tensorrt'; choose one of openvino, onnxruntime")
    assert capsys.readouterr().err == (
        "infer: error: unknown engine 'tensorrt'; choose one of openvino, onnxruntime (docs/deployment.md#engines)\n"
    )


@pytest.mark.parametrize(
    "text", ["a rare error", "exit code 1; the end of log.txt:\n  loss: lower the learning rate"]
)
def test_others_stay_as_they_are(text):
    assert explained(text) == text


def test_a_line_that_another_process_ended_is_not_ended_again():
    once = explained("loss is nan: lower the learning rate")
    assert explained(f"a stage failed, {once} (log.txt)").count("docs/") == 1


def test_the_address_is_that_of_the_packages_metadata(monkeypatch):
    found = Message()
    found["Project-URL"] = "Source, https://example.org/code"
    found["Project-URL"] = "Documentation, https://example.org/docs/"
    monkeypatch.setattr(module.metadata, "metadata", lambda name: found)
    assert module.address("deployment.md#engines") == "https://example.org/docs/deployment.html#engines"

    def missing(name):
        raise module.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "metadata", missing)
    assert module.address("deployment.md#engines") == "docs/deployment.md#engines"
