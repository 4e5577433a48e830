"""Commands, flags, paths, names, links and quoted messages of the documentation exist."""

import ast
import importlib
import io
import re
import runpy
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from mmvideoiq import compat
from mmvideoiq.service.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    + [path for folder in ("benchmarks", "configs", "tools", "zoo") for path in (ROOT / folder).rglob("*.md")]
)
ELSEWHERE = "…"  # the variable parts of a quoted message


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every command in bash blocks and in inline code, without what is set before it."""
    lines = [
        line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()
    ] + re.findall(r"`((?:python|bash|make|mmvideoiq) [^`\n]+)`", without_blocks(text))
    for line in lines:
        words = shlex.split(re.sub(r"[\[\]]", " ", line), comments=True)
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words:
            yield words


def module_path(tokens: list[str]) -> str | None:
    """The tool or, after ``-m``, the mmvideoiq module that ``python`` runs."""
    if tokens[1] == "-m":
        return tokens[2] if tokens[2].startswith("mmvideoiq") else None
    return tokens[1] if tokens[1].startswith("tools/") else None


@cache
def help_text(command: str, sub: str) -> str:
    """Output of ``--help``; the tool runs in this process, since importing torch again takes seconds."""
    argv, path = sys.argv, list(sys.path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    printed = io.StringIO()
    sys.argv = [command, *sub.split(), "--help"]
    try:
        with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as end:
            if command.startswith("mmvideoiq"):
                runpy.run_module(command, run_name="__main__")
            else:
                runpy.run_path(str(ROOT / command), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = argv, path
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert not end.value.code, printed.getvalue()
    return printed.getvalue()


def flags_of(command: str, tokens: list[str]) -> set[str]:
    text = help_text(command, "")
    choices = re.search(r"\{([\w,]+)\}\s+\.\.\.", text) or re.search(r"(\w+(?: \| \w+)+) \.\.\.", text)
    if choices:
        sub = next((word for word in tokens if word in re.split(r",| \| ", choices[1])), "")
        text += help_text(command, sub) if sub else ""
    return set(re.findall(r"--[\w-]+", text))


def flags_of_mmvideoiq(tokens: list[str]) -> set[str]:
    """The flags of a command and of the one below it, such as ``zoo list``."""
    text = help_text("mmvideoiq", tokens[1])
    below = re.search(r"\{([\w,]+)\}\s+\.\.\.", text) or re.search(r"(\w+(?: \| \w+)*) \.\.\.\n", text)
    if below and len(tokens) > 2 and tokens[2] in re.split(r",| \| ", below[1]):
        text += help_text("mmvideoiq", f"{tokens[1]} {tokens[2]}")
    return set(re.findall(r"--[\w-]+", text))


def wrong_flags(tokens: list[str], words: list[str]) -> list[str]:
    """What is wrong in ``mmvideoiq ...``: no such command, or flags among the words that it does not have."""
    if tokens[1].startswith("--"):
        return []
    if tokens[1] not in COMMANDS:
        return [" ".join(tokens[:2])]
    given = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}
    return (
        [f"{' '.join(tokens[:2])} {flag}" for flag in sorted(given - flags_of_mmvideoiq(tokens))]
        if given
        else []
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for tokens in command_lines(page.read_text(encoding="utf-8")):
        if tokens[0] == "make":
            wrong += [f"make {word}" for word in tokens[1:] if "=" not in word and word not in targets]
        elif tokens[0] == "mmvideoiq" and tokens[1:]:
            wrong += wrong_flags(tokens, tokens)
        elif tokens[0] == "bash" and not (ROOT / tokens[1]).is_file() and "*" not in tokens[1]:
            wrong.append(f"bash {tokens[1]}")
        elif (
            tokens[0] == "python"
            and (command := module_path(tokens))
            and not re.search(r"[<*]|\.\.\.", command)
        ):
            if command.startswith("tools/") and not (ROOT / command).is_file():
                wrong.append(f"python {command}")
                continue
            given = {word.partition("=")[0] for word in tokens if re.match(r"--\w", word)}
            wrong += (
                [f"{command} {flag}" for flag in sorted(given - flags_of(command, tokens))] if given else []
            )
    assert wrong == []


def test_every_flag_of_the_table_of_commands_exists():
    wrong = []
    for row in (DOCS / "commands.md").read_text(encoding="utf-8").splitlines():
        first = re.match(r"\| `python ([^`]+)`", row)
        if first and (command := module_path(["python", *first[1].split()])):
            flags = set(re.findall(r"--[\w-]+", row))
            wrong += [f"{command} {flag}" for flag in sorted(flags - flags_of(command, first[1].split()))]
        ours = re.match(r"\| `(mmvideoiq [^`]+)`", row)
        if ours:
            wrong += wrong_flags(ours[1].split(), re.findall(r"--[\w-]+", row))
    assert wrong == []


def test_every_command_of_mmvideoiq_is_in_the_table():
    rows = (DOCS / "commands.md").read_text(encoding="utf-8").splitlines()
    named = {found[1] for row in rows if (found := re.match(r"\| `mmvideoiq (\w+)", row))}
    assert named == COMMANDS.keys()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page):
    text = page.read_text(encoding="utf-8")
    names = set(
        re.findall(
            r"(?<![\w/.])(?:configs|tools|docs|tests|mmvideoiq|benchmarks)/[\w./-]*\w\.(?:py|sh|md|ipynb|yml)\b",
            text,
        )
    )
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def made_pages(monkeypatch) -> set[str]:
    """Paths below docs/ of what the build supplies."""
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(str(DOCS))
    hook = importlib.import_module("hook")
    pages = {f"figures/{name}" for name in hook.FIGURES} | {f"api/{name}.md" for name in hook.PAGES}
    pages |= {f"{place}/{name}" for folder, place in hook.COPIED.items() for name in hook.copied(folder)}
    return pages | {"backbones.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page, monkeypatch):
    made = made_pages(monkeypatch) if DOCS in page.parents else set()
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        path = target.partition("#")[0]
        if path and "://" not in path and not (page.parent / path).exists() and path not in made:
            wrong.append(target)
    assert wrong == []


def plain(block: str) -> str:
    """The block without placeholders: values of configs, and the ``...`` at the end of a shortened call."""
    return re.sub(r",\s*\.\.\.(?=\s*[)\]])", "", re.sub(r"\{\{.*?\}\}", "None", block))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_are_python_and_import_what_exists(page):
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(plain(block))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mmvideoiq"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


# --- quoted messages -----------------------------------------------------------------------------------------------


@cache
def texts_of_the_source() -> list[str]:
    """Every text in the package and the tools, with ``…`` where a value is put in; shell scripts as they are."""
    found = []
    for path in [*(ROOT / "mmvideoiq").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else ELSEWHERE for p in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found + [path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("*.sh")]


def is_in_the_source(message: str) -> bool:
    """Whether a string of the source contains the fixed parts of the message, in this order."""
    parts = [re.escape(part) for part in message.split(ELSEWHERE)]
    pattern = re.compile(".*?".join(parts), re.DOTALL)
    return any(pattern.search(text) for text in texts_of_the_source())


QUOTED = [
    line
    for block in blocks((DOCS / "troubleshooting.md").read_text(encoding="utf-8"), "text")
    for line in block.splitlines()
]


@pytest.mark.parametrize("message", QUOTED)
def test_quoted_messages_are_in_the_source(message):
    assert is_in_the_source(message)


def test_an_unknown_message_is_detected():
    assert len(QUOTED) > 20
    assert not is_in_the_source("no model … in the cinema; …")


# --- the pages that are made ---------------------------------------------------------------------------------------


@pytest.fixture
def api_pages(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("api_pages")


def test_every_module_has_its_place(api_pages):
    placed = [module for modules in api_pages.modules().values() for module in modules]
    files = {
        api_pages.module_name(path)
        for path in (ROOT / "mmvideoiq").rglob("*.py")
        if path.name != "__main__.py"
    }
    assert sorted(placed) == sorted(files - {"mmvideoiq"})


def test_every_registered_part_is_in_the_configuration_reference(api_pages):
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    shown = "\n".join(api_pages.registered(name) for name in re.findall(r"registered: (\w+)", text))
    assert set(re.findall(r"^::: \S+\.(\w+)$", shown, re.MULTILINE)) == compat.registered_names()


def test_roles_and_literal_blocks_become_markdown(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(DOCS))
    to_markdown = importlib.import_module("griffe_roles").to_markdown
    assert to_markdown("see :func:`~a.b.c` and :class:`.Bundle`") == "see `c` and `Bundle`"
    assert (
        to_markdown("Files::\n\n    a  b\n    c\n\nEnd.") == "Files:\n\n```text\n    a  b\n    c\n```\n\nEnd."
    )


def test_every_variable_of_the_environment_is_documented():
    ours = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mmvideoiq").rglob("*.py"))
    configs = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "configs").rglob("*.py"))
    names = set(re.findall(r"\bMMVIDEOIQ_[A-Z]+", ours)) | set(re.findall(r"\{\{\$(\w+)", configs))
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_pictures_are_drawn_the_same_again(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    figures = importlib.import_module("figures")
    assert figures.draw("costs.svg") == figures.draw("costs.svg")


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """The notebook, and ``run()``: its cells in a kernel whose temporary folder is ``tmp_path``."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    path = DOCS / "notebooks/folder_to_timeline.ipynb"
    read = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        read, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return read, client.execute


def test_the_folder_of_the_notebook_goes_with_its_kernel(notebook, tmp_path):
    content, run = notebook
    content.cells = content.cells[:2]
    content.cells[1].source += "\nVIDEOS.mkdir()\nprint(VIDEOS)"
    run()
    assert content.cells[1].outputs[0].text.startswith(f"{tmp_path}/mmvideoiq_")
    assert not list(tmp_path.glob("mmvideoiq_*"))


@pytest.mark.slow
def test_the_notebook_runs(notebook):
    content, run = notebook
    assert all(not cell.get("outputs") for cell in content.cells), "committed without outputs"
    run()
    shown = [output for output in content.cells[-1]["outputs"] if "image/png" in output.get("data", {})]
    assert len(shown) == 1
