"""`python -m functions.ops.reference`: writes the pages."""

from functions.ops.reference import DOCS, PAGES

for name, text in PAGES.items():
    (DOCS / name).write_text(text(), encoding="utf-8")
