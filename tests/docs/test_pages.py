"""The pages are in step with the code: their links lead somewhere, and their commands have options that exist."""

import dataclasses
import importlib.util
import re
import runpy
from collections.abc import Mapping

import pytest

from stableavatar_jax.options import groups
from tests.docs.blocks import MARKS, PAGES, ROOT, blocks

OPTIONS = runpy.run_path(str(ROOT / "docs" / "options.py"))
DOCS = ROOT / "docs"
SHELL = [block for block in blocks() if block.info[:1] == ("bash",) and "python" in block.text]


def test_all_options_are_those_of_the_code():
    assert (DOCS / "options.md").read_text(encoding="utf-8") == OPTIONS["page"](), "run `python docs/options.py`"
    assert str(ROOT) not in OPTIONS["page"](), "a path of this machine"


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [*DOCS.glob("*.md"), *DOCS.glob("*.ipynb")]
    missing = [page.name for page in pages if page.name != "README.md" and f"({page.name}" not in index]
    assert not missing


def anchors(page):
    """The places of a page that GitHub's links lead to."""
    titles = re.findall(r"(?m)^#+ +(.*?)\s*$", re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8")))
    return {OPTIONS["_anchor"](title) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert "://" in link or target.exists(), link
        assert not anchor or "://" in link or anchor in anchors(target), link


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_commands_say_whether_they_are_run(block):
    """A block of commands or of a program, and only such a one, has one mark."""
    if block.info[:1] in (("bash",), ("python",)):
        assert block.info[1:] in [(mark,) for mark in MARKS], f"{block.place}: give it one of {', '.join(MARKS)}"
    else:
        assert not re.search(r"(?m)^ *(python|make|pip) ", block.text), f"{block.place}: commands; write ```bash MARK"


def options_of(words):
    """The options of the command that these words begin with; None for a program that is not ours."""
    if words[0] != "python" or len(words) < 2:
        return None
    program, rest = (" ".join(words[:3]), words[3:]) if words[1] == "-m" else (" ".join(words[:2]), words[2:])
    program = program.replace("stableavatar_jax.convert", "convert")
    if program.startswith("python -m benchmarks."):
        assert importlib.util.find_spec(words[2]), words[2]
        return None
    if program == "python train.py":
        part = rest[rest.index("--part") + 1] if "--part" in rest else "dit"
        cls = OPTIONS["PROGRAMS"]["python train.py --part"].get(part)
        more = {"--part"}
    else:
        cls, more = OPTIONS["PROGRAMS"].get(program), set()
        if isinstance(cls, Mapping):
            cls = cls.get(rest[0] if rest else "") or cls.get("measure")
    if cls is None:
        return None
    shown = [option for _, options in groups(cls) for option, _ in options]
    return more | {"--help"} | {name.split()[0] for each in shown for name in each.split(", ")}


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_commands_have_options_that_exist(block):
    for words in block.commands():
        known = options_of(words)
        for word in words if known is not None else ():
            assert not word.startswith("--") or word.partition("=")[0] in known, f"{word} of {' '.join(words)}"


def test_options_that_are_wrong_would_be_noticed():
    wrong = dataclasses.replace(SHELL[0], text="x | python train.py --part vae --steps 3 \\\n --stps 4  # --no\n")
    assert list(wrong.commands()) == [["x"], ["python", "train.py", "--part", "vae", "--steps", "3", "--stps", "4"]]
    with pytest.raises(AssertionError, match="--stps of python train.py"):
        test_commands_have_options_that_exist(wrong)


@pytest.mark.parametrize(
    "block", [block for block in blocks() if block.info[:1] == ("python",) and block.page.name == "presets.md"],
    ids=lambda block: block.place,
)  # fmt: skip
def test_presets_of_the_docs_are_values(block):
    names: dict = {}
    exec(compile(block.text, block.place, "exec"), names)
    assert dataclasses.is_dataclass(names.get("config") or names["small"])
