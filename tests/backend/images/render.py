"""Asks Chromium what it shows of each file of the corpus, and writes ``chromium.json``.

    .venv/bin/python -m tests.backend.images.render

Of each file: a digest of its bytes, ``size`` (height, width) with its orientation applied, or null where Chromium shows
nothing; ``shown``, the share of its pixels that are drawn; and ``colors``, the means of a grid of 2×2 over white, as
[R, G, B] each, which tell how the picture is turned.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.backend.images.damaged import corpus
from tests.integration.editor import FLAGS

KEPT = Path(__file__).parent / "chromium.json"

_LOOK = """async ([kind, data]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const image = new Image();
  const loaded = await new Promise(done => {
    image.onload = () => done(true);
    image.onerror = () => done(false);
    image.src = URL.createObjectURL(new Blob([bytes], {type: kind}));
  });
  if (!loaded || !image.naturalWidth) return {size: null, shown: 0, colors: []};
  document.body.replaceChildren(image);
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const canvas = document.createElement('canvas');
  const [wide, high] = [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, wide, high).data;
  let drawn = 0;
  const sums = [0, 1, 2, 3].map(() => [0, 0, 0, 0]);
  for (let y = 0; y < high; y++) for (let x = 0; x < wide; x++) {
    const at = 4 * (y * wide + x), alpha = pixels[at + 3] / 255;
    drawn += alpha > 0;
    const sum = sums[2 * (2 * y >= high) + (2 * x >= wide)];
    for (let c = 0; c < 3; c++) sum[c] += pixels[at + c] * alpha + 255 * (1 - alpha);
    sum[3] += 1;
  }
  const colors = sums.map(sum => sum.slice(0, 3).map(value => Math.round(value / Math.max(1, sum[3]))));
  return {size: [high, wide], shown: Math.round(1000 * drawn / (wide * high)) / 1000, colors};
}"""

_KINDS = {"jpg": "jpeg", "ico": "x-icon"}


def rendered(page: Page, name: str, data: bytes) -> dict[str, Any]:
    """What Chromium shows of one file."""
    ending = name.rpartition(".")[2]
    found: dict[str, Any] = page.evaluate(
        _LOOK, [f"image/{_KINDS.get(ending, ending)}", base64.b64encode(data).decode()]
    )
    if not found["shown"]:  # its size is known and nothing of it is drawn: a person sees nothing
        found = {"size": None, "shown": 0, "colors": []}
    return {"digest": digest(data), **found}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page()
        found = {name: rendered(page, name, data) for name, data in corpus().items()}
        version = browser.version
        browser.close()
    lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(found.items())]
    KEPT.write_text(f'{{\n  "": {json.dumps(version)},\n' + ",\n".join(lines) + "\n}\n")
    print(
        f"{len(found)} files, of which Chromium {version} shows {sum(bool(entry['size']) for entry in found.values())}"
    )


if __name__ == "__main__":
    main()
