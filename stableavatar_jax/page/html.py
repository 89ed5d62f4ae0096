"""What the page shows of a video, as HTML."""

import base64
import html
import io
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from stableavatar_jax.page.progress import Progress, Stage
from stableavatar_jax.page.wanted import Wanted
from stableavatar_jax.words import count, duration

SERVED = "/gradio_api/file="
"""Where files of the page's folder are served."""
STYLE = """
.told {padding: 0.6em 0.8em; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere}
.error {background: #fde8e8; color: #7a1414}
.notice {background: #fdf6dc; color: #5c4a00; margin-bottom: 0.4em}
.stage {display: grid; grid-template-columns: 16em 1fr; gap: 0.8em; align-items: center}
.stage progress {width: 100%}
#plan textarea {font-family: monospace; font-size: 12px}
.shown {max-width: 100%; border-radius: 6px}
"""


def error(text: str) -> str:
    """What was refused or went wrong, as the command line says it."""
    return f'<div class="told error" role="alert">error: {html.escape(text)}</div>'


def notes(texts: Sequence[str]) -> str:
    """Notices, each in a box of its own."""
    return "".join(f'<div class="told notice">{html.escape(text)}</div>' for text in texts)


def picture(image: Image.Image) -> str:
    """A picture within the page."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return f'<img class="shown" src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'


def status(wanted: Wanted, ahead: int) -> str:
    """How far a video is, and what came of it."""
    if wanted.state == "waits":
        return f'<div class="told">waits: {count(ahead, "video")} before it</div>'
    if wanted.state == "failed":
        return error(wanted.error)
    if wanted.state == "cancelled":
        return '<div class="told">cancelled: nothing of it is left</div>'
    if wanted.state == "stands":
        return '<div class="told">the video is finished</div>'
    return _stages(wanted.progress) if wanted.progress else '<div class="told">looks at picture and sound</div>'


def _stages(progress: Progress) -> str:
    encoding, denoising, decoding = progress.encoding, progress.denoising, progress.decoding
    rows = [
        _stage(f"encode {encoding.name}" if encoding else "encode", encoding),
        _stage(f"denoise {denoising.done}/{denoising.of} windows x steps" if denoising else "denoise", denoising),
        _stage(f"decode {decoding.done}/{decoding.of} frames" if decoding else "decode", decoding),
    ]
    left = "" if progress.left is None else f"<div>about {duration(progress.left)} left</div>"
    return f'<div class="told">{"".join(rows)}{left}</div>'


def _stage(label: str, stage: Stage | None) -> str:
    done = f'value="{stage.done}" max="{stage.of}"' if stage else 'value="0" max="1"'
    return f'<div class="stage"><span>{label}</span><progress {done}></progress></div>'


def rough(wanted: Wanted) -> str:
    """The preview, or nothing where a video can be shown. Its address changes with it, so that the browser shows the
    new one.
    """
    path = wanted.look
    if path is None or wanted.over or wanted.video:
        return ""
    return f'<img class="shown" alt="preview" src="{_address(path)}?{path.stat().st_mtime_ns}">'


def video(wanted: Wanted) -> str:
    """A player of the video, or of what is made of it so far."""
    if (path := wanted.video) is None:
        return ""
    whole = wanted.state == "stands"
    name = "download" if whole else "the video so far; it begins anew when there is twice as much"
    link = f'<a href="{_address(path)}" download="{path.name}">{name}</a>' if whole else name
    return f'<video class="shown" controls preload="auto" src="{_address(path)}"></video><div>{link}</div>'


def _address(path: Path) -> str:
    return f"{SERVED}{urllib.parse.quote(str(path.absolute()))}"
