import os
import select
import signal
import subprocess
import sys

import pytest

from gpudiff.model.errors import NeighbourLost
from gpudiff.services import child as module
from gpudiff.services.child import Child, child

SLEEPER = "import signal, sys; print('hello'); print('ready: here', flush=True); signal.pause()"


@pytest.fixture
def python(monkeypatch):
    """`gpudiff CODE` runs Python code instead of a gpudiff command."""
    real = subprocess.Popen
    monkeypatch.setattr(module.subprocess, "Popen", lambda words, **kw: real([words[0], "-c", words[3]], **kw))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.usefixtures("python")
def test_a_child_is_ready_when_it_says_so_and_gone_at_the_end(tmp_path):
    with child([SLEEPER], tmp_path / "log", "ready: ", 20) as one:
        assert one.ready == "ready: here"
        assert one.running
        pid = one._process.pid
    assert not alive(pid)
    assert (tmp_path / "log").read_text() == "hello\nready: here\n"


@pytest.mark.usefixtures("python")
def test_a_child_is_gone_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), child([SLEEPER], tmp_path / "log", "ready: ", 20) as one:  # noqa: PT012
        pid = one._process.pid
        1 / 0  # noqa: B018
    assert not alive(pid)


@pytest.mark.usefixtures("python")
def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(NeighbourLost, match="it ended: no templates"):
        Child(["print('no templates')"], tmp_path / "log", "ready: ", 20)


@pytest.mark.usefixtures("python")
def test_a_child_that_is_never_ready_is_stopped(tmp_path):
    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with pytest.raises(NeighbourLost, match=r"expected 'ready: ' within 1 s"):
        Child([code], tmp_path / "log", "ready: ", 1)
    assert not alive(int((tmp_path / "log").read_text()))


@pytest.mark.usefixtures("python")
def test_a_child_that_does_not_listen_is_killed(tmp_path):
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
    assert Child([code], tmp_path / "log", "ready: ", 20).stop(0.2) == -signal.SIGKILL


def test_a_parent_that_is_asked_to_terminate_takes_its_child_with_it(tmp_path):
    code = (
        "import subprocess, os, signal, sys; from pathlib import Path; from gpudiff.services import child as m\n"
        "real = subprocess.Popen\n"
        "m.subprocess.Popen = lambda words, **kw: real([words[0], '-c', words[3]], **kw)\n"
        f"with m.child([{SLEEPER!r}], Path({str(tmp_path / 'log')!r}), 'ready: ') as one:\n"
        "    print(one._process.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.terminate()
        assert parent.wait(20) == 128 + signal.SIGTERM
    assert not alive(pid)


def test_a_parent_that_is_killed_takes_its_child_with_it(tmp_path):
    ending = tmp_path / "ended"
    code = (
        "import signal, sys; from pathlib import Path\n"
        f"def end(*_): Path({str(ending)!r}).write_text('asked'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('ready: here', flush=True); signal.pause()"
    )
    parent_code = (
        "import subprocess, signal; from pathlib import Path; from gpudiff.services import child as m\n"
        "real = subprocess.Popen\n"
        "m.subprocess.Popen = lambda words, **kw: real([words[0], '-c', words[3]], **kw)\n"
        f"one = m.Child([{code!r}], Path({str(tmp_path / 'log')!r}), 'ready: ', 20)\n"
        "print(one._process.pid, flush=True); signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        watched = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        assert select.select([watched], [], [], 20)[0]
        os.close(watched)
    assert ending.read_text() == "asked"
