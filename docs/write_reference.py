"""Write what the documentation says from the program; with --check only compare.

reference/checks.md and reference/explanations.md come from the tables; what pages show as printed
is printed anew.
"""

import sys
from pathlib import Path

import write_examples

from kgpuctl.cli.tables import all_checks
from kgpuctl.explained import load_explained
from kgpuctl.explanations import load_explanations
from kgpuctl.render import explanations, reference

REFERENCE = Path(__file__).parent / "reference"


def main() -> int:
    """Return 1 if a page was not what it should be, and was not to be written."""
    entries = reference.entries(
        ((check.id, check.title) for check in all_checks()), load_explained()
    )
    checks = _write("checks.md", reference.as_page(entries))
    explained = _write("explanations.md", explanations.as_page(load_explanations().rows))
    return checks | explained | write_examples.main()


def _write(name: str, page: str) -> int:
    path = REFERENCE / name
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before == page:
        return 0
    if "--check" not in sys.argv:
        path.write_text(page, encoding="utf-8")
        return 0
    sys.stderr.write(f"docs/reference/{name} is not what the tables say: run `nox -s docs`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
