import json
import re
import shutil
import subprocess
from html import unescape

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WATCH = """<!DOCTYPE html>
<body>
<iframe id="page" src="{name}" style="width:390px;height:800px;border:0"></iframe>
<script>
page.onload = () => {{
  const view = page.contentWindow, root = page.contentDocument
  document.body.dataset.found = JSON.stringify({{
    window: view.innerWidth,
    page: root.documentElement.scrollWidth,
    wide: [...root.querySelectorAll("body *")]
      .filter(part => !part.closest("table") && part.getBoundingClientRect().right > view.innerWidth + 0.5)
      .map(part => part.tagName),
    loaded: view.performance.getEntriesByType("resource").map(entry => entry.name),
    pictures: [...root.images].map(image => image.complete && image.naturalWidth),
    background: view.getComputedStyle(root.body).backgroundColor,
  }})
}}
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_it_at_the_width_of_a_phone_and_loads_nothing(full, tmp_path):
    name = full.with_name("watch.html")
    name.write_text(WATCH.format(name=full.name), encoding="utf-8")
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "extensions"]
    options = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{part}" for part in quiet)]
    options += ["--force-dark-mode", "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"]
    options += [f"--user-data-dir={tmp_path}", "--window-size=600,900", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *options, name.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    seen = json.loads(unescape(re.search(r'data-found="([^"]*)"', done.stdout)[1]))
    assert seen["window"] == 390
    assert seen["page"] <= 390
    assert seen["wide"] == seen["loaded"] == []
    assert len(seen["pictures"]) == 10
    assert min(seen["pictures"]) > 100
    assert seen["background"] == "rgb(255, 255, 255)"
