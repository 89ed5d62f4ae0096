"""The page: its fields and buttons, and what they do. The only file that knows gradio."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import gradio as gr
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.page import html
from stableavatar_jax.page.queue import Queue, plain
from stableavatar_jax.page.wanted import Wanted
from stableavatar_jax.sampling.config import Denoising, Frame, SampleConfig

POLL = 0.3
"""Seconds between two looks at a video that is being made."""
HOUR = 3600
"""Seconds between two looks for uploads that are a day old, which go: videos have copies of theirs."""
PICTURES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"]
ABOUT = "A picture and a recording become a talking video. Everything stays on the machine that this page runs on."
FIELDS = ("image", "audio", "prompt", "seed", "steps", "guidance", "height", "width", "start", "duration")
"""Options by their names on the command line, in the order of the page's fields."""
CALLED = {"image": "the picture", "audio": "the sound"}
"""What the page calls an option otherwise."""

Check = Callable[[Path], str | None]
"""What the model cannot do with a picture; None where all is well."""


def build(queue: Queue, config: SampleConfig, limits: str, check: Check) -> gr.Blocks:
    """The page of a queue. `config` has the values that fields begin with; `limits` says what the model is for."""
    with gr.Blocks(title="StableAvatar", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        gr.Markdown(f"# StableAvatar\n{ABOUT}\n\n{limits}")
        mine = gr.State(None)
        with gr.Row():
            with gr.Column():
                fields, seen = _fields(config)
                with gr.Row():
                    plan, make = gr.Button("Plan"), gr.Button("Make the video", variant="primary")
                    cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")
            with gr.Column():
                status, notices = gr.HTML(elem_id="status"), gr.HTML(elem_id="notices")
                video, rough = gr.HTML(elem_id="video"), gr.HTML(elem_id="rough")
                told = gr.Textbox(label="The plan", lines=8, elem_id="plan", interactive=False)

        def look(path: str | None) -> tuple[str, str]:
            return _look(path, config.frame, check)

        async def planned(*values: Any) -> tuple[str, str, str]:
            try:
                text, found = await asyncio.to_thread(queue.plan, _options(values))
            except Mistake as error:
                return html.error(_told(error, values)), "", ""
            return "", html.notes(found), text

        async def made(*values: Any) -> AsyncIterator[Any]:
            try:
                wanted = await asyncio.to_thread(queue.add, _options(values))
            except Mistake as error:
                yield (None, html.error(_told(error, values)), "", "", "", "", gr.Button(interactive=False))
                return
            async for shown in _follow(queue, wanted):
                yield shown

        shown = [mine, status, notices, video, rough, told, cancel]
        # Videos wait in the queue of ours, nothing in gradio's.
        free: Any = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
        fields[0].change(look, fields[0], [seen, notices], **free)
        plan.click(planned, fields, [status, notices, told], **free)
        make.click(made, fields, shown, **free)
        stop = lambda wanted: queue.cancel(wanted) if wanted else None  # noqa: E731
        cancel.click(stop, mine, **free)
    return page


def _fields(config: SampleConfig) -> tuple[list[Any], gr.HTML]:
    """The fields in the order of FIELDS, and the place where the picture is shown."""
    inputs, frame, denoising = config.inputs, config.frame, config.denoising
    image = gr.File(label="Picture", file_types=PICTURES, height=140, elem_id="image")
    seen = gr.HTML(elem_id="seen")
    audio = gr.Audio(label="Sound", sources=["upload", "microphone"], type="filepath", elem_id="audio")
    prompt = gr.Textbox(label="Prompt", value=inputs.prompt)
    with gr.Row():
        seed = gr.Number(label="Seed", value=inputs.seed, precision=0, elem_id="seed")
        free = not denoising.fewer.noise_levels  # distilled weights have their own noise levels, and no guidance
        fixed: Any = {"interactive": free, "info": None if free else "fixed: distilled weights"}
        steps = gr.Number(label="Steps", value=denoising.steps, precision=0, elem_id="steps", **fixed)
        known = get_args(Denoising.__annotations__["guidance"])
        guidance = gr.Dropdown(label="Guidance", choices=list(known), value=denoising.guidance, **fixed)
    with gr.Row():
        narrow: Any = {"min_width": 110}
        height = gr.Number(label="Height", value=frame.height, precision=0, step=16, elem_id="height", **narrow)
        width = gr.Number(label="Width", value=frame.width, precision=0, step=16, elem_id="width", **narrow)
        start = gr.Number(label="Sound from (s)", value=inputs.start, step=0.1, elem_id="start", **narrow)
        duration = gr.Number(label="Seconds (0: all)", value=0, step=0.1, elem_id="duration", **narrow)
    return [image, audio, prompt, seed, steps, guidance, height, width, start, duration], seen


def _options(values: tuple[Any, ...]) -> dict[str, Any]:
    """The options of a form. Raises Mistake where a field is empty that needs a value."""
    options = dict(zip(FIELDS, values, strict=True))
    for name, value in options.items():
        if value is None:
            raise Mistake(f"{CALLED.get(name, name)} is missing")
    seconds = {"start": float(options["start"]), "duration": float(options["duration"]) or None}
    return options | seconds | {name: Path(options[name]) for name in ("image", "audio")}


def _told(error: Mistake, values: tuple[Any, ...]) -> str:
    return plain(error, *(Path(path) for path in values[:2] if path))


def _look(path: str | None, frame: Frame, check: Check) -> tuple[str, str]:
    """A picture as the video would show it, and what is to be said of it."""
    if path is None:
        return "", ""
    try:
        fitted = media.fit_picture(media.read_picture(Path(path)), frame.height, frame.width, frame.fit, frame.crop)
        said = check(Path(path))
    except Mistake as error:
        return html.error(plain(error, Path(path))), ""
    image = Image.fromarray(media.as_bytes(fitted))
    small = image.resize((frame.width * 192 // frame.height, 192))
    return html.picture(small), html.notes([said] if said else [])


async def _follow(queue: Queue, wanted: Wanted) -> AsyncIterator[Any]:
    """What is shown of a video, as often as something of it changes, until it is over."""
    before: tuple[Any, ...] = ()
    while True:
        over = wanted.over  # before all else is read, so that the last look is at the end
        parts = (
            html.status(wanted, queue.ahead(wanted)), html.notes(wanted.notices), html.video(wanted),
            html.rough(wanted), wanted.plan, not over,
        )  # fmt: skip
        if parts != before:
            new = [part if was != part else gr.skip() for part, was in zip(parts, before or [None] * 6, strict=True)]
            yield (wanted, *new[:5], gr.Button(interactive=not over))
            before = parts
        if over:
            return
        await asyncio.sleep(POLL)
