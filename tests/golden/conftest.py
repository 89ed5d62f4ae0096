"""Gives every test of this folder the cases of its `GROUP`, and says at the end what was compared and what was not."""

from pathlib import Path

import pytest

from tests.golden import cases

HERE = Path(__file__).parent


def pytest_addoption(parser):
    default = HERE.parents[1].parent / "shared" / "golden"
    parser.addoption("--golden", type=Path, default=default, help="folder of reference numbers")


def pytest_generate_tests(metafunc):
    """A test with a `case` argument runs once for every case of its module's GROUP that its `CASES` pattern admits."""
    if "case" in metafunc.fixturenames:
        pattern = getattr(metafunc.function, "cases", "*")
        found = [
            case
            for case in cases.find(metafunc.config.getoption("--golden"))
            if case.group in metafunc.module.GROUPS and case.path.match(pattern) and not case.reason_left_out
        ]
        metafunc.parametrize("case", found, ids=lambda case: case.name)


def pytest_sessionstart(session):
    folder = session.config.getoption("--golden")
    if not cases.find(folder):
        raise pytest.UsageError(f"{folder}: no cases found; give the folder of reference numbers as GOLDEN=DIR")


def pytest_collection_finish(session):
    """Every case of the folder is claimed by a test or left out by a written reason."""
    if hasattr(session.config, "workerinput"):
        return
    claimed = {item.callspec.params["case"].name for item in session.items if hasattr(item, "callspec")}
    session.config.stash[CLAIMED] = claimed


CLAIMED = pytest.StashKey[set]()


def pytest_terminal_summary(terminalreporter, config):
    found = cases.find(config.getoption("--golden"))
    out = [case for case in found if case.reason_left_out]
    passed = {r.nodeid.split("[")[-1].rstrip("]") for r in terminalreporter.stats.get("passed", ())}
    names = {case.name for case in found}
    terminalreporter.section("reference numbers")
    for reason in sorted({case.reason_left_out for case in out}):
        left = ", ".join(case.name for case in out if case.reason_left_out == reason)
        terminalreporter.line(f"left out: {left}: {reason}")
    terminalreporter.line(f"{len(passed & names)} cases passed, {len(out)} left out, {len(names)} found")
