"""README and docs/ as tests read them: their text, tables, links and anchors.

Must stay true: a heading's anchor is the one that GitHub and the site give it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """README, SECURITY and every page of docs/."""
    return [README, ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md"))]


def page(name: str) -> str:
    """One page of docs/."""
    return (DOCS / f"{name}.md").read_text()


def text() -> str:
    """All pages together."""
    return "\n".join(file.read_text() for file in pages())


def links(markdown: str) -> list[str]:
    """The targets of all links and pictures outside of code blocks, those to other sites apart."""
    found = _LINK.findall(_FENCE.sub("", markdown))
    return [target for target in found if "://" not in target and not target.startswith("mailto:")]


def anchors(markdown: str) -> set[str]:
    """The anchors of the headings: lower case, spaces as hyphens, letters, digits, hyphens and underscores kept."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.replace("`", "")).strip().lower().replace(" ", "-") for title in titles}


def dead(file: Path, markdown: str, root: Path = ROOT) -> list[str]:
    """The links of a page that lead to no file, to no heading or out of the repository."""
    wrong = []
    for link in links(markdown):
        name, _, anchor = link.partition("#")
        target = (file.parent / name).resolve() if name else file
        known = target.exists() and target.is_relative_to(root)
        if known and anchor:
            known = target.suffix == ".md" and anchor in anchors(target.read_text() if name else markdown)
        if not known:
            wrong.append(link)
    return wrong


def tables(markdown: str) -> Iterator[list[list[str]]]:
    """The tables of a page: rows of cells, the header first."""
    for block in re.findall(r"(?:^\|.*\|\n)+", _FENCE.sub("", markdown) + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def table(markdown: str, first: str) -> list[list[str]]:
    """The rows, without the header, of the one table whose first header cell this is."""
    (found,) = [rows for rows in tables(markdown) if rows[0][0] == first]
    return found[1:]


def quoted(cells: list[str]) -> set[str]:
    """The words in backquotes of these cells."""
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}
