"""`make site`: whether each link and each anchor of the built site leads somewhere. Exit code 1
when one does not."""

import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).parents[2] / ".cache" / "site" / "html"
LINK = re.compile(r'(?:href|src)="([^"]+)"')
ANCHOR = re.compile(r'\bid="([^"]+)"')


def broken(site: Path) -> list[str]:
    """The links that lead nowhere, each with its page. Addresses of other hosts are not asked."""
    pages = [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]
    return [
        f"{page.relative_to(site)}: {link}"
        for page in pages
        for link in dict.fromkeys(LINK.findall(page.read_text(encoding="utf-8")))
        if not _leads(page, link)
    ]


def _leads(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return False
    return not parts.fragment or unquote(parts.fragment) in _anchors(target)


@cache
def _anchors(page: Path) -> frozenset[str]:
    return frozenset(ANCHOR.findall(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    broken_links = broken(SITE)
    print(*broken_links, sep="\n", end="\n" if broken_links else "", file=sys.stderr)
    sys.exit(bool(broken_links))
