"""Open every built page in a browser, as wide as a phone and as a desktop, and list what is wrong with it.

``python docs/_check_pages.py docs/_build/html`` needs Playwright's Python package and any Chromium, and no network.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urldefrag

from playwright.sync_api import sync_playwright

PHONE, DESKTOP = 390, 1280
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# what is as wide as the page, as a script of the page sees it
LOOK = """() => {
    document.head.insertAdjacentHTML("beforeend", "<style>* {transition: none !important}</style>");
    const shown = element => element.checkVisibility({visibilityProperty: true, opacityProperty: true})
        && element.getBoundingClientRect().right > 0 && element.getBoundingClientRect().width > 0;
    const sidebar = document.querySelector(".bd-sidebar-primary");
    return {
        width: document.documentElement.scrollWidth,
        sidebar: sidebar && shown(sidebar) ? sidebar.scrollWidth - sidebar.clientWidth : 0,
        searches: [...document.querySelectorAll(".search-button__button, form.bd-search")].filter(shown).length,
        code: [...document.querySelectorAll(".highlight pre")].filter(
            pre => !pre.closest(".output") && pre.scrollWidth > pre.clientWidth + 1).map(
            pre => pre.textContent.split("\\n").reduce((a, b) => a.length < b.length ? b : a)),
        images: [...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src),
    };
}"""
READ = """() => ({
    links: [...document.querySelectorAll("a[href]")].map(link => link.href),
    anchors: [...document.querySelectorAll("[id], a[name]")].flatMap(one => [one.id, one.name]),
})"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=600")  # scripts and styles are read once
        super().end_headers()


def check_look(look: dict[str, Any], width: int) -> list[str]:
    faults = [f"does not load {source}" for source in look["images"]]
    if look["width"] > width:
        faults.append(f"scrolls sideways: it is {look['width']} px wide")
    if look["searches"] != 1:
        faults.append(f"shows {look['searches']} search boxes")
    if width == DESKTOP:
        faults += [f"cuts the code {line.strip()}" for line in look["code"]]
        if look["sidebar"] > 0:
            faults.append("has a sidebar that scrolls sideways")
    return [f"at {width} px {fault}" for fault in faults]


def check_links(links: dict[str, set[str]], anchors: dict[str, set[str]], folder: Path, root: str) -> list[str]:
    faults = []
    for page, targets in links.items():
        for target in sorted(targets):
            address, anchor = urldefrag(target)
            path = unquote(address.removeprefix(root).partition("?")[0]) or "index.html"
            if not (folder / path).is_file():
                faults.append(f"{page}: links to {path}, which does not exist")
            elif anchor and path in anchors and unquote(anchor) not in anchors[path]:
                faults.append(f"{page}: links to #{anchor} of {path}, which does not exist")
    return faults


def check_pages(folder: Path, executable: str) -> list[str]:
    """Return what is wrong, a line for each fault."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}/"
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    pages = [page for page in pages if not page.startswith("_")]
    faults: list[str] = []
    links: dict[str, set[str]] = {}
    anchors: dict[str, set[str]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": PHONE, "height": 844})
        noticed: list[str] = []
        # other hosts do not answer, and what follows from that is no fault of the page
        tab.route(lambda address: not address.startswith((root, "data:")), lambda route: route.abort())
        tab.on("pageerror", lambda error: noticed.append(f"a script fails: {error.message.splitlines()[0]}"))
        tab.on(
            "console",
            lambda message: (
                noticed.append(f"the console says: {message.text}")
                if message.type == "error" and message.location["url"].startswith(root)
                else None
            ),
        )
        tab.on(
            "response",
            lambda answer: noticed.append(f"does not find {answer.url}") if answer.status >= 400 else None,
        )
        for page in pages:
            noticed.clear()
            tab.set_viewport_size({"width": PHONE, "height": 844})
            tab.goto(root + page, wait_until="load")
            found = check_look(tab.evaluate(LOOK), PHONE)
            tab.set_viewport_size({"width": DESKTOP, "height": 900})
            found += check_look(tab.evaluate(LOOK), DESKTOP)
            read = tab.evaluate(READ)
            links[page] = {link for link in read["links"] if link.startswith(root)}
            anchors[page] = {"", *read["anchors"]}
            faults += [f"{page}: {fault}" for fault in dict.fromkeys(noticed + found)]
        browser.close()
    server.shutdown()
    faults += check_links(links, anchors, folder, root)
    print(f"{len(pages)} pages, {sum(map(len, links.values()))} links")
    return faults


def main() -> None:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed")
    faults = check_pages(Path(sys.argv[1]), executable)
    print("\n".join(faults) or "no faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
