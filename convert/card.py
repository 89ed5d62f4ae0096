"""The model card of what is exported: a README with the front matter that model hubs read."""

import re
from pathlib import Path

from stableavatar_jax.errors import Mistake

from .options import Layout, PartName
from .record import read_record

FILE = "README.md"

WHAT: dict[PartName, str] = {
    "dit": "The transformer of a StableAvatar model: it turns noise into the latents of a video in which the person of"
    " a picture speaks, from the picture, the speech and a prompt.",
    "vae": "The video autoencoder of a StableAvatar model: frames to latents, and back.",
    "umt5": "The text encoder of a StableAvatar model, a UMT5: it reads the prompt.",
    "clip_vision": "The image encoder of a StableAvatar model, a CLIP: it sees the picture of the person.",
    "wav2vec2": "The speech encoder of a StableAvatar model, a wav2vec 2.0: it reads the sound.",
}
LIBRARIES = {"original": "pytorch", "diffusers": "diffusers", "transformers": "transformers"}
UNKNOWN = "unknown"


def model_card(name: PartName, layout: Layout, source: Path, facts: str) -> str:
    """The card of a part exported from the model directory `source`; `facts` is a sentence about its tensors.

    Licence and training are told as the directory's own card and its record of conversions tell them; what they do not
    say, the card says is not known.
    """
    own = source / FILE
    try:
        told = own.read_text(encoding="utf-8") if own.is_file() else ""
    except (OSError, ValueError) as error:
        raise Mistake.at(own, f"cannot be read as text ({error})", "write it again, or remove it") from None
    front, body = _parted(told)
    found = re.search(r"^license: *(\S+)", front, re.MULTILINE)
    licence = found[1] if found else UNKNOWN
    pipeline = ["pipeline_tag: image-to-video"] if name == "dit" else []
    head = ["---", f"license: {licence}", f"library_name: {LIBRARIES[layout]}", *pipeline, "tags:", "- talking-avatar",
            "- stableavatar", "---"]  # fmt: skip
    sections = {
        f"{source.resolve().name}: {name}": f"{WHAT[name]}\n\n{facts}",
        "Training": _origin(name, source) + ("" if body else " What they were trained on is not recorded."),
        "Licence": _licence(licence),
        "Limits": _limits(name),
    }
    text = "\n\n".join(
        f"{'#' if n == 0 else '##'} {title}\n\n{says}" for n, (title, says) in enumerate(sections.items())
    )
    inner = re.sub(r"^#", "##", body, flags=re.MULTILINE)
    whole = f"\n\n## The card of the model that this is a part of\n\n{inner}" if body else ""
    return "\n".join(head) + f"\n\n{text}{whole}\n"


def _parted(card: str) -> tuple[str, str]:
    """The front matter of a card, and its text."""
    parts = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL)
    return (parts[1], parts[2].strip()) if parts else ("", card.strip())


def _origin(name: PartName, source: Path) -> str:
    entry = read_record(source).get(name)
    if not isinstance(entry, dict):
        return "No record says how the weights came into the model directory."
    if entry.get("command") == "random":
        return f"The weights were drawn at random (seed {entry.get('seed')}): they have learned nothing."
    files = [each for each in entry.get("from", ()) if isinstance(each, dict)]
    listed = ", ".join(f"`{Path(str(each.get('file'))).name}` (SHA-256 {each.get('sha256')})" for each in files)
    line = f"The weights were made on {entry.get('made')} by `convert {entry.get('command')}` from {listed or 'files'}."
    if entry.get("loras"):
        line += f" LoRAs were added: {', '.join(Path(str(each)).name for each in entry['loras'])}."
    if entry.get("born anew"):
        line += " The files lacked some modules, which were initialised and had learned nothing then."
    return line


def _licence(licence: str) -> str:
    if licence != UNKNOWN:
        return f"{licence}, as the card of the model says."
    return (
        "No licence is recorded with the weights. They keep that of the weights they were made from: look it up, and"
        " put it into the first lines of this file, before you pass them on."
    )


def _limits(name: PartName) -> str:
    alone = "It is one of five parts and makes no video alone."
    if name != "dit":
        return f"{alone} The transformer reads it as it was while that was trained; another of its kind does not fit."
    return (
        f"{alone} Nothing was measured for this card. A video may look like a real person who speaks: use pictures"
        " and voices only as their owners allow, and say of a video that it was generated."
    )
