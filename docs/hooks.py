"""Puts the repository's own pages, such as README.md, on the site beside those of docs/, and what is measured while it
is built into them. Called by mkdocs.

A link keeps the form that works where people read the file, relative to it in the repository. On the site it
leads to the page, or to the repository for what is no page, such as an example's source.
"""

import posixpath
import re
from pathlib import Path

import live
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
LIVE = re.compile(r"^<!-- live: (.+?) -->$", re.MULTILINE)
BLOCK = re.compile(r'^```python title="([^"]+)"\n(.*?)^```', re.DOTALL | re.MULTILINE)

# What is measured for a page and lies beside it: path and text.
_beside: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page in PAGES:
        if (REPOSITORY / page).exists():
            files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / page)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.parent is None:
        # Alone in its part of the navigation: the width is better spent on code.
        page.meta.setdefault("hide", ["navigation"])
    here = page.file.src_uri
    home = posixpath.dirname(here if here in PAGES else f"docs/{here}")

    def on_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(home, link[1]))
        source = target.removeprefix("docs/")
        if files.get_file_from_path(source):
            return posixpath.relpath(source, posixpath.dirname(here))
        if (REPOSITORY / target).exists():
            return f"{config.extra['repository']}/blob/main/{target}"
        return link[1]  # dead: mkdocs says so, and --strict makes it an error

    blocks = dict(BLOCK.findall(markdown))
    up = posixpath.relpath("timelines", posixpath.dirname(page.file.dest_uri))
    markdown = LIVE.sub(lambda it: live.build(it[1], blocks, _beside).replace("TIMELINES", up), markdown)
    return LINK.sub(on_site, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    for path, text in _beside.items():
        file = Path(config.site_dir, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
