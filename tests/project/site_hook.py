"""What `make docs` changes of the pages for the site: README is its first page; files of the repository are no links.

Must stay true: links between the pages are left alone, for mkdocs checks them; those to files of the repository are
checked by tests/project/test_pages.py.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_ELSEWHERE = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?:\.\./)+[^)\s]*\)")


def on_files(files: Any, config: Any) -> Any:
    """README, with its links as they are from within docs/."""
    text = (Path(config["config_file_path"]).parent / "README.md").read_text()
    text = re.sub(r"\]\((?!docs/|#|[a-z]+:)", "](../", text).replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links that leave docs/ are text: the site has the pages alone."""
    return _ELSEWHERE.sub(r"\1", markdown)
