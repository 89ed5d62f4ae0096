"""Gives every test of this folder the cases of its `GROUP`, and says at the end what was compared and what was not."""

from pathlib import Path

import pytest

from tests.golden import cases

HERE = Path(__file__).parent


def pytest_addoption(parser):
    default = HERE.parents[1].parent / "shared" / "golden"
    parser.addoption("--golden", type=Path, default=default, help="folder of reference numbers")


def pytest_generate_tests(metafunc):
    """A test with a `case` argument runs once for every case of its module's GROUPS that its `cases` admits: a pattern
    of file names, or a function of the case."""
    if "case" in metafunc.fixturenames:
        admits = getattr(metafunc.function, "cases", "*")
        found = [
            case
            for case in cases.find(metafunc.config.getoption("--golden"))
            if case.group in metafunc.module.GROUPS and not case.reason_left_out
            and (case.path.match(admits) if isinstance(admits, str) else admits(case))
        ]
        metafunc.parametrize("case", found, ids=lambda case: case.name)


def pytest_sessionstart(session):
    folder = session.config.getoption("--golden")
    if not cases.find(folder):
        raise pytest.UsageError(f"{folder}: no cases found; give the folder of reference numbers as GOLDEN=DIR")


def pytest_sessionfinish(session):
    """A case that no test compared, and that no written reason leaves out, fails a run of the whole folder."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    whole = [Path(arg).resolve() for arg in session.config.args] == [HERE] and not session.config.getoption("keyword")
    if hasattr(session.config, "workerinput") or reporter is None or not whole:
        return
    _, ran, missed = _tally(reporter, session.config)
    if missed or not ran:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    found, passed, missed = _tally(terminalreporter, config)
    out = [case for case in found if case.reason_left_out]
    terminalreporter.section("reference numbers")
    for reason in sorted({case.reason_left_out for case in out}):
        left = ", ".join(case.name for case in out if case.reason_left_out == reason)
        terminalreporter.line(f"left out: {left}: {reason}")
    for name in sorted(missed):
        terminalreporter.line(f"NOT COMPARED: {name}: no test knows it, and no reason leaves it out")
    terminalreporter.line(f"{len(passed)} cases passed, {len(out)} left out, {len(found)} found")


def _tally(reporter, config):
    """All cases of the folder, the names of those that passed every test, and of those no test ran."""
    found = cases.find(config.getoption("--golden"))
    names = {outcome: {_case_of(r.nodeid) for r in reporter.stats.get(outcome, ())} for outcome in ("passed", "failed")}
    due = {case.name for case in found if not case.reason_left_out}
    return found, due & names["passed"] - names["failed"], due - names["passed"] - names["failed"]


def _case_of(nodeid: str) -> str:
    return nodeid.split("[")[-1].rstrip("]")
