"""The page in a real browser: two users, one page, and the demo's small avatar."""

import importlib.util
import json
import re
import socket
import urllib.error
import urllib.request

import pytest
from PIL import Image

from stableavatar_jax.demo.preset import PICTURE, SPEECH
from stableavatar_jax.page.__main__ import main
from tests.page import browser
from tests.page.serving import served

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed (the extra ui)"
)
WATCH = """
window.seen = {status: [], video: [], rough: []};
new MutationObserver(() => {
  for (const id in window.seen) {
    const part = document.querySelector('#' + id);
    const found = id == 'status' ? part.innerText : part.querySelector('video, img')?.src;
    if (found && window.seen[id].at(-1) != found) window.seen[id].push(found);
  }
}).observe(document.body, {subtree: true, childList: true, characterData: true});
"""
"""Keeps all that parts of the page ever showed."""
PRESS = "[...document.querySelectorAll('button')].find(each => each.innerText == '{}').click()"
PIXELS = """
const video = document.querySelector('#video video'), canvas = document.createElement('canvas');
if (!video || video.readyState < 2 || video.seeking) return null;
if (video.currentTime == 0) { video.currentTime = 0.2; return null; }
canvas.width = canvas.height = 64;
const context = canvas.getContext('2d');
context.drawImage(video, 0, 0, 64, 64);
return {pixels: [...context.getImageData(0, 0, 64, 64).data], width: video.videoWidth, seconds: video.duration};
"""
"""A frame as the browser decodes it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(folder):
    """The page's address."""
    with served(folder, "--largest", "1") as address:
        yield address
    left = sorted(str(path.relative_to(folder / "work")) for path in folder.glob("work/**/*") if path.is_file())
    assert all(re.fullmatch(r"page/[0-9a-f]{16}/talk\.mp4", name) for name in left)
    cache = folder / "home" / ".cache" / "stableavatar_jax"  # of compiled programs, as of every command
    assert not [path for path in folder.glob("home/**/*") if path.is_file() and cache not in path.parents]


@pytest.fixture(scope="module")
def tab(page):
    if lacking := browser.missing():
        pytest.skip(f"{lacking}: not installed (Debian: chromium, chromium-driver)")
    with browser.opened(page) as tab:
        yield tab


def filled(tab, image, **options):
    """A user's page with picture, sound and fields filled in."""
    user = tab()
    user.until("return document.querySelector('#audio input[type=file]') && document.querySelector('#image input')")
    user.script(WATCH)
    user.type("#image input[type=file]", image)
    user.type("#audio input[type=file]", SPEECH)
    user.until("return document.querySelector('#seen img, #seen [role=alert]')")
    user.until("return document.querySelector('#audio').innerText.includes('0:10')")  # the recording's length
    for name, value in options.items():
        field = f"#{name} input"
        user.script(f"const field = document.querySelector('{field}'); field.value = ''; field.focus()")
        user.type(field, value)
    return user


def videos(folder):
    """Names of the folders of videos."""
    return [path.name for path in folder.iterdir() if path.name != "uploads" and path.is_dir()]


def test_uploads_are_limited(page):
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    request = urllib.request.Request(
        f"{page}gradio_api/upload", part + bytes(1_500_000) + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert answer.code == 413, json.load(answer)


def test_two_users(tab, folder, tmp_path):
    work = folder / "work" / "page"
    with Image.open(PICTURE) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "turned.png")
    one = filled(tab, PICTURE)
    assert one.script("return document.querySelector('#steps input').disabled"), "the student has its own noise levels"
    one.script(PRESS.format("Make the video"))
    two = filled(tab, tmp_path / "turned.png", duration=0.5)
    two.script(PRESS.format("Make the video"))

    # The first user sees how far it is, a rough picture and the plan, and does not want it any more.
    one.until("return /denoise [0-9]+.[0-9]+ windows/.test(document.querySelector('#status').innerText)")
    one.until("return document.querySelector('#rough img')?.naturalWidth == 96")
    assert not one.script(
        "return performance.getEntriesByType('resource').map(each => each.name)"
        ".filter(name => !name.startsWith(location.origin) && !/^(data|blob):/.test(name))"
    )  # nothing comes from elsewhere
    assert "4 steps" in one.until("return document.querySelector('#plan textarea').value")
    two.until("return window.seen.status.some(each => each.includes('waits: 1 video before it'))")
    assert len(videos(work)) == 2
    one.script(PRESS.format("Cancel"))
    one.until("return document.querySelector('#status').innerText.includes('cancelled: nothing of it is left')")

    # The second user's is made: its frames are decoded in the browser. Of the first nothing is left.
    shown = two.until("if (!document.querySelector('#status').innerText.includes('finished')) return null;" + PIXELS)
    assert shown["width"] == 384 and abs(shown["seconds"] - 0.52) < 0.05
    assert max(shown["pixels"][::4]) - min(shown["pixels"][::4]) > 100
    assert videos(work) == [two.script("return document.querySelector('#video video').src").split("/")[-2]]
    seen = two.script("return window.seen")
    assert any("encode" in each for each in seen["status"]) and any("denoise" in each for each in seen["status"])

    # The first user wants a longer one, which can be played before it is finished.
    one.script("for (const name in window.seen) window.seen[name] = []")
    one.script("const field = document.querySelector('#duration input'); field.value = ''; field.focus()")
    one.type("#duration input", 2)
    one.script(PRESS.format("Make the video"))
    other = one.until("if (!document.querySelector('#status').innerText.includes('finished')) return null;" + PIXELS)
    assert abs(other["seconds"] - 2) < 0.1
    names = [each.split("/")[-1] for each in one.script("return window.seen.video")]
    assert names == ["so-far-1.mp4", "talk.mp4"]
    differ = [abs(a - b) for a, b in zip(shown["pixels"], other["pixels"], strict=True)]
    assert sum(differ) / len(differ) > 10  # it is the other user's picture


def test_what_is_no_picture(tab, tmp_path):
    (tmp_path / "notes.png").write_text("These are notes.")
    user = filled(tab, tmp_path / "notes.png")
    told = "error: notes.png: not a picture Pillow can read; save it as PNG or JPEG"
    assert user.script("return document.querySelector('#seen').innerText").strip() == told
    user.script(PRESS.format("Make the video"))
    user.until(f"return document.querySelector('#status').innerText.trim() == '{told}'")
    user.script(PRESS.format("Plan"))
    user.until(f"return document.querySelector('#status').innerText.trim() == '{told}'")


def test_what_the_demo_cannot_do(tab, tmp_path):
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    noise.save(tmp_path / "photo.png")
    user = filled(tab, tmp_path / "photo.png")
    assert "It knows drawn cartoon characters" in user.script("return document.body.innerText")
    user.until("return document.querySelector('#notices').innerText.includes('photo.png is not the kind of picture')")


@pytest.mark.parametrize(("options", "words"), [
    (["--host", "300.1.1.1"], "the page cannot be opened at 300.1.1.1 "),
    (["--port", "0"], "port is 0, 1 to 65535 is needed"), (["--largest", "0"], "at least 1 megabyte"),
    (["--checkpoint", "nowhere"], "nowhere: no such folder"), (["--port", "TAKEN"], r"\(Address already in use\)"),
])  # fmt: skip
def test_what_is_refused_before_anything_is_loaded(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        given = [each.replace("TAKEN", str(other.getsockname()[1])) for each in options]
        assert main(given) in (1, 2)
    assert re.search(words, capsys.readouterr().err) and not list(tmp_path.iterdir())
