"""Write docs/reference/checks.md from the check tables; with --check only compare."""

import sys
from pathlib import Path

from kgpuctl.cli.tables import all_checks
from kgpuctl.explained import load_explained
from kgpuctl.render.reference import as_page, entries

PAGE = Path(__file__).parent / "reference" / "checks.md"


def main() -> int:
    """Return 1 if the page on the disk was not what the tables say."""
    page = as_page(entries(((check.id, check.title) for check in all_checks()), load_explained()))
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if before == page:
        return 0
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    sys.stderr.write("docs/reference/checks.md is not what the tables say: run `nox -s docs`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
