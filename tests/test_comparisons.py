"""README's table of what a policy gains says what the compared rows hold."""

import json
import re

import pytest

SETS = ("gestures", "scenes", "demo")


@pytest.fixture(scope="module")
def compared(repo) -> list[dict[str, dict]]:
    """The rows of each set by name."""
    files = [repo / "benchmarks" / "comparisons" / f"{name}.json" for name in SETS]
    return [
        {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]} for file in files
    ]


def test_the_table_of_readme(repo, compared):
    readme = (repo / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| top-1 % (ms per clip) |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 8
    for line in table:
        for cell, rows in zip(line.strip("| ").split(" | ")[1:], compared, strict=False):
            top1, ms = re.fullmatch(r"\**([\d.]+)[^(]*\(([\d.]+)\)\**", cell).groups()
            digits = len(ms.partition(".")[2])
            wanted = {
                (f"{100 * row['top1']:.1f}", f"{row.get('ms_per_clip', -1):.{digits}f}")
                for row in rows.values()
            }
            assert (top1, ms) in wanted, f"{cell} is no row"
    ours = [f"{100 * rows['videoiq']['top1']:.1f}" for rows in compared]
    assert [re.match(r"\**([\d.]+)", cell)[1] for cell in table[5].strip("| ").split(" | ")[1:]] == ours
