"""The API pages: a page for a group of modules, each module's docstrings in full."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "mmvideoiq"
# page -> title, and the modules on it: globs below the package
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "actions": ("Actions and costs", ("actions.py", "cost.py")),
    "quant": ("Any-precision layers", ("quant/*.py",)),
    "models": ("Models", ("models/*.py",)),
    "training": (
        "Training",
        (
            *("hooks.py", "checkpoint/*.py", "recipes/*.py"),
            *("evaluation/*.py", "jobs/*.py"),
        ),
    ),
    "data": ("Data", ("data/*.py", "video/*.py")),
    "deploy": ("Runtime", ("deploy/*.py", "deploy/bundle/*.py", "deploy/engines/*.py")),
    "export": ("Export", ("deploy/export/*.py",)),
    "benchmark": ("Measuring", ("benchmark/*.py", "latency/*.py")),
    "zoo": ("Model zoo", ("zoo/*.py",)),
    "commands": ("Patches and commands", ("service/**/*.py", "compat/*.py", "cli.py", "fileio.py", "plugin.py")),
    "report": ("Reports and drawings", ("visualization/*.py",)),
}  # fmt: skip
REGISTERED = re.compile(r"^@(\w+)\.register_module\(\)\n(?:@.*\n)*class (\w+)", re.MULTILINE)
REST = "report"  # takes modules that no glob names


def modules() -> dict[str, list[str]]:
    """Page -> module names, in the order of the globs; every module of the package is on one page."""
    found: dict[str, list[str]] = {}
    seen: set[Path] = set()
    for name, (_, globs) in PAGES.items():
        paths = [path for glob in globs for path in sorted(PACKAGE.glob(glob)) if path not in seen]
        seen.update(paths)
        found[name] = [module_name(path) for path in paths if path.name != "__main__.py"]
    left = sorted(
        path
        for path in PACKAGE.rglob("*.py")
        if path not in seen and path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
    )
    found[REST] += [module_name(path) for path in left]
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def page(name: str) -> str:
    """The Markdown of a page."""
    title, _ = PAGES[name]
    blocks = [f"## `{module.removeprefix('mmvideoiq.')}`\n\n::: {module}" for module in modules()[name]]
    return "\n\n".join([f"# {title}", *blocks]) + "\n"


def registered(registry: str) -> str:
    """The Markdown of all our parts in one of MMAction2's registries: constructor and docstring of each."""
    blocks = [
        f"::: {module_name(path)}.{name}\n    options:\n      show_root_heading: true\n      heading_level: 3\n"
        "      show_root_full_path: false\n      members: false"
        for path in sorted(PACKAGE.rglob("*.py"))
        for found, name in REGISTERED.findall(path.read_text(encoding="utf-8"))
        if found == registry
    ]
    if not blocks:
        raise ValueError(f"nothing of ours is in the registry {registry}")
    return "\n\n".join(blocks)
