#!/usr/bin/env python3
"""Builds the guide as a book, and follows its links.

    book.py MDBOOK

Every chapter of the summary has to be there and in the index that the book is searched
by, and every link within the book, to a page, a picture or a heading, has to lead to
something. What leads out of the book is not followed.
"""

import html.parser
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOOK = ROOT / "target" / "book"


class Page(html.parser.HTMLParser):
    """The links of a page, and the places that links can lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def leads_nowhere(page, link, pages):
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = page
    if parts.path:
        target = (page.parent / urllib.parse.unquote(parts.path)).resolve()
    if not target.is_file() or BOOK not in target.parents:
        return True
    if parts.fragment and target in pages:
        return urllib.parse.unquote(parts.fragment) not in pages[target].ids
    return False


def main():
    subprocess.run([sys.argv[1], "build", ROOT / "docs"], check=True)
    pages = {path: Page(path) for path in BOOK.glob("*.html")}
    links = [(page, link) for page in pages for link in pages[page].links]
    # The page that has all chapters shows their links as they are in the chapters, and the
    # one for addresses that do not exist has the addresses of a server.
    links = [(page, link) for page, link in links if page.name not in ("print.html", "404.html")]
    problems = [
        f"{page.name}: {link} leads nowhere"
        for page, link in links
        if leads_nowhere(page, link, pages)
    ]

    [index] = BOOK.glob("searchindex*.js")
    indexed = index.read_text(encoding="utf-8")
    chapters = re.findall(r"\]\(([\w-]+)\.md\)", (ROOT / "docs" / "SUMMARY.md").read_text())
    for chapter in chapters:
        page = BOOK / f"{chapter}.html"
        if page not in pages:
            problems.append(f"{chapter}.md is no page of the book")
        if json.dumps(f"{chapter}.html")[1:-1] not in indexed:
            problems.append(f"{chapter}.md cannot be found by searching")
    if len(chapters) < 20 or len(links) < 1000:
        problems.append(f"only {len(chapters)} chapters and {len(links)} links were found")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(chapters)} chapters, {len(links)} links")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
