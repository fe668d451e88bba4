"""
Starts of ``python -m ruqsat`` that do not wait for its imports.

A start costs a second of processor time before the first line of ours runs, and the tests start hundreds.  One
process for each worker imports the command line once and does nothing else; whatever is started is a fork of it,
with an environment, a folder, words and output of its own, that ends as an interpreter ends.  Until somebody asks
how it ended it stays in the process table, as a child of one's own would.

``RUQSAT_TEST_COLD=1`` starts everything anew, and so does a system without ``pidfd_open``.  The policy guide, the
examples, the proxies and every planted bug are started anew always.
"""

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any, NoReturn

MODULE = ("-m", "ruqsat")
ROOT = Path(__file__).resolve().parent.parent
COLD = bool(os.environ.get("RUQSAT_TEST_COLD")) or not hasattr(os, "pidfd_open")
IMPORTED = (
    "alembic.command", "alembic.ddl.postgresql", "pydantic.v1", "uvicorn.lifespan.off",
    *(f"ruqsat.cli.{file.stem}" for file in sorted((ROOT / "src" / "ruqsat" / "cli").glob("[a-z]*.py"))),
)  # fmt: skip
"""What the others need not import: every command, and what a start imports later."""

LONGEST = 1 << 20
"""Bytes of the largest request; an environment is smaller."""


class Started:
    """A fork that runs ``ruqsat``, with what the tests use of :class:`subprocess.Popen`."""

    def __init__(self, warm: "_Warm", words: Sequence[str], pid: int) -> None:
        self._warm, self.args, self.pid = warm, [sys.executable, *MODULE, *words], pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, negative by that signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._warm.ask({"reap": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return how it ended; raise TimeoutExpired if it does not."""
        if self.poll() is None:
            handle = os.pidfd_open(self.pid)
            try:
                if not select.select([handle], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
            finally:
                os.close(handle)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to be gone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class _Warm:
    """The process that has imported the command line, and the way to it; requests are answered one at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        self._socket, self._lock = ours, Lock()
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any], *files: int) -> Any:
        """Send a request with open files, and return the answer."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        with self._lock:
            self._socket.sendmsg([json.dumps(request).encode()], rights)
            answer = self._socket.recv(LONGEST)
        assert answer, "the process that starts `ruqsat` is gone"
        return json.loads(answer)

    def close(self) -> None:
        """End it; what it started is ended by whoever asked for it."""
        self._socket.close()
        self._process.wait()


_warm: list[_Warm] = []


def start(words: Sequence[str], *, stdout: IO[Any], stderr: IO[Any], env: Mapping[str, str], cwd: Path) -> Any:
    """Start ``ruqsat`` with *words*, as ``subprocess.Popen`` would, without standard input."""
    if COLD:
        return subprocess.Popen(
            [sys.executable, *MODULE, *words], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env, cwd=cwd
        )
    if not _warm:
        _warm.append(_Warm())
    files = stdout.fileno(), stderr.fileno()
    answer = _warm[0].ask({"words": [*words], "env": dict(env), "cwd": str(cwd)}, *files)
    return Started(_warm[0], words, answer["pid"])


def _serve(way: socket.socket) -> dict[str, Any]:
    """Fork and reap as asked, until nobody can ask; returns in each fork, with what it shall be."""
    while True:
        data, files, _, _ = socket.recv_fds(way, LONGEST, 2)
        if not data:
            sys.exit(0)
        request = json.loads(data)
        if "reap" in request:
            pid, status = os.waitpid(request["reap"], os.WNOHANG)
            way.send(json.dumps({"code": os.waitstatus_to_exitcode(status) if pid else None}).encode())
            continue
        pid = os.fork()
        if not pid:
            way.close()
            return request | {"files": files}
        for each in files:
            os.close(each)
        way.send(json.dumps({"pid": pid}).encode())


def _become(shall: Mapping[str, Any]) -> NoReturn:
    """Be the command line that was asked for."""
    for number, file in enumerate(shall["files"], 1):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(shall["env"])
    time.tzset()
    os.chdir(shall["cwd"])
    sys.argv[1:] = shall["words"]
    runpy.run_module("ruqsat", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    for each in IMPORTED:
        importlib.import_module(each)

    gc.collect()
    gc.freeze()
    with suppress(KeyboardInterrupt):
        shall = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(shall)
