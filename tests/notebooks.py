"""The notebooks: stripped for git, run on an archive, rendered for `docs/notebooks/`.

    python -m tests.notebooks     strip every notebook, run it on generated events, render it anew

A page holds the digest of the cells that it was rendered from, so that a test sees an old one.
It is one file without scripts and without anything to fetch.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

from archiver.generate import generate_bodies
from tests.support import archive_bodies, new_archive

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = ROOT / "docs" / "notebooks"
DOCUMENTED_EVENTS = 20_000

_PICTURE = re.compile(r'<img alt="[^"]*" src="data:image/svg\+xml;base64,([^"]*)"/?>')
_TITLE = re.compile(r'<text[^>]*font-size="13px"[^>]*>([^<"]*)<')

_STYLE = """
body { font: 15px/1.5 Helvetica, Arial, sans-serif; color: #1b1b1b; max-width: 46rem; margin: 2rem auto;
 padding: 0 1rem }
h1, h2 { line-height: 1.2; margin: 2rem 0 .6rem } h1 { margin-top: 0 }
pre, code { font: 12px/1.45 "DejaVu Sans Mono", Menlo, Consolas, monospace } code { overflow-wrap: anywhere }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 } td { overflow-wrap: anywhere }
.input_area .highlight { background: #f5f5f3; border-left: 3px solid #cfcfca; padding: .5rem .7rem;
 margin: .6rem 0 }
.text_cell pre { background: #f5f5f3; padding: .5rem .7rem }
table { border-collapse: collapse; font-size: 12px; margin: .6rem 0; width: 100% }
th, td { border-bottom: 1px solid #d8d8d4; padding: .2rem .5rem .2rem 0; text-align: left;
 vertical-align: top }
img { max-width: 100%; height: auto } .anchor-link, .prompt { display: none }
@media print { @page { size: A4; margin: 16mm } body { margin: 0; max-width: none; font-size: 10.5pt }
 img, tr, .highlight { break-inside: avoid } h2 { break-after: avoid } }
"""


def read(path: Path) -> NotebookNode:
    found: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return found


def stripped(notebook: NotebookNode) -> str:
    """Return the text of the notebook's file without outputs, counts, and what editors leave in it."""
    cells: list[dict[str, Any]] = []
    for cell in notebook.cells:
        kept: dict[str, Any] = {name: cell[name] for name in ("cell_type", "id", "source")}
        kept["metadata"] = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            kept |= {"execution_count": None, "outputs": []}
        cells.append(kept)
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def digest(notebook: NotebookNode) -> str:
    """Return the digest of what the notebook says and does."""
    told = json.dumps([[cell.cell_type, cell.source] for cell in notebook.cells])
    return f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def run(path: Path, archive: Path, *, last: str = "", timezone: str = "UTC", **given: object) -> NotebookNode:
    """Run a notebook from top to bottom on an archive, in a kernel of this environment.

    Args:
        last: A cell to run behind the others.
        timezone: Of the machine that it seems to run on.
        given: Values for the names in the cell that is tagged `parameters`.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = read(path)
    cells = notebook.cells
    [at] = [number for number, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", ())]
    added = [
        (at + 1, "".join(f"{name} = {value!r}\n" for name, value in given.items())),
        (len(cells) + 1, last),
    ]
    for number, source in added:
        cells.insert(number, nbformat.v4.new_code_cell(source, id=f"added-{number}"))  # type: ignore[no-untyped-call]
    environment = {
        **os.environ,
        **{"ARCHIVER_ARCHIVE": str(archive), "PYTHONPATH": str(ROOT), "TZ": timezone},
        **{"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "default"},
    }
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(archive.parent)}})
        kernel = client.create_kernel_manager()
        kernel.transport, kernel.ip = "ipc", f"{folder}/socket"
        kernel.connection_file = f"{folder}/connection.json"
        client.execute(env=environment)
    for number, source in reversed(added):
        if not source:
            del cells[number]
    return notebook


def rendered(notebook: NotebookNode, *, of: NotebookNode) -> str:
    """Return the page of an executed notebook; `of` is the one that lies in git."""
    exporter = HTMLExporter(template_name="basic")  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(notebook)
    body = _PICTURE.sub(_with_its_title, body)
    title = next(cell.source for cell in of.cells).splitlines()[0].removeprefix("# ")
    style = _STYLE + HtmlFormatter(style="bw").get_style_defs(".highlight")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f'<meta name="notebook-digest" content="{digest(of)}">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _with_its_title(picture: re.Match[str]) -> str:
    """Tell whoever cannot see a chart what it is: the `alt` text of a picture is its title."""
    found = _TITLE.search(base64.b64decode(picture[1]).decode())
    title = found[1] if found else "without a title"
    return f'<img alt="Chart: {title}" src="data:image/svg+xml;base64,{picture[1]}"/>'


def generated(folder: Path, *, events: int, seed: int = 0, **options: Any) -> Path:
    """Archive generated deliveries below `folder` and return where."""
    bodies = [body for body, _, _ in generate_bodies(events=events, seed=seed, **options)]
    archive_bodies(new_archive(folder / "archive"), *bodies)
    return folder / "archive"


def main() -> None:
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        notebook = read(path)
        path.write_text(stripped(notebook))
        with tempfile.TemporaryDirectory() as folder:
            archive = generated(Path(folder), events=DOCUMENTED_EVENTS)
            page = rendered(run(path, archive), of=notebook)
        target = PAGES / f"{path.stem}.html"
        target.write_text(page)
        sys.stdout.write(f"{target.relative_to(ROOT)}: {len(page.encode()):,} bytes\n")


if __name__ == "__main__":
    main()
