"""Puts the repository's own pages, such as README.md, on the site beside those of docs/. Called by mkdocs.

A link keeps the form that works where people read the file, relative to it in the repository. On the site it
leads to the page, or to the repository for what is no page, such as an example's source.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "examples/README.md",
)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page in PAGES:
        if (REPOSITORY / page).exists():
            files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / page)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    home = posixpath.dirname(here if here in PAGES else f"docs/{here}")

    def on_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(home, link[1]))
        source = target.removeprefix("docs/")
        if files.get_file_from_path(source):
            return posixpath.relpath(source, posixpath.dirname(here))
        if (REPOSITORY / target).exists():
            return f"{config.repo_url}/blob/main/{target}"
        return link[1]  # dead: mkdocs says so, and --strict makes it an error

    return LINK.sub(on_site, markdown)
