"""The picture of the page in the docs: `python -m tests.page.screenshot docs/page.jpg`.

It needs the extra `ui`, and Chromium with its driver. The fox that comes with the package speaks for two seconds.
"""

import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from stableavatar_jax.demo.preset import PICTURE
from tests.page import browser
from tests.page.serving import served
from tests.page.test_page import PIXELS, PRESS, filled


def main(path: Path) -> None:
    """Make a video with the page, and write what the browser shows when it is finished."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as address, browser.opened(address) as tab:
        user = filled(tab, PICTURE, duration=2)
        user.script(PRESS.format("Make the video"))
        user.until("return document.querySelector('#status').innerText.includes('finished')")
        user.script("document.querySelector('#video video').currentTime = 1.2; window.scrollTo(0, 0)")
        user.until(PIXELS)  # a frame is decoded
        time.sleep(1)  # the player's own signs of loading go
        Image.open(io.BytesIO(user.picture())).convert("RGB").save(path, quality=80, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
