"""What a visit costs here at the least: its messages received, and the bytes of its alerts on the disk."""

import multiprocessing
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import zmq

from gpudiff.edges import aligned

RUNS, ON_THEIR_WAY = 3, 8
"""Runs, of which the median counts; pieces of the file that may wait for the disk."""


def bare_s(messages: Sequence[Sequence[int]], archived: int, senders: int, folder: Path) -> float:
    """Seconds of a bare loop: so many senders hand on messages over a Unix socket, each answered at once, and
    bytes in proportion go past the page cache to the disk; nothing is looked at.  From the first message to the
    sync of the file, median of RUNS.

    messages : bytes of each part of each message; archived : bytes for the disk; folder : of the file
    """
    return statistics.median(_run(messages, archived, senders, folder) for _ in range(RUNS))


def _run(messages: Sequence[Sequence[int]], archived: int, senders: int, folder: Path) -> float:
    endpoint, path = f"ipc://{folder / 'bare.ipc'}", folder / "bare.bin"
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    socket.bind(endpoint)
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(messages, senders, endpoint))
    process.start()
    try:
        sender, *_ = socket.recv_multipart(copy=False)
        start = time.perf_counter()
        with ThreadPoolExecutor(1) as pool:
            file = _File(path, pool)
            for n in range(1, len(messages) + 1):
                file.grow(archived * n // len(messages))
                socket.send_multipart([sender.bytes, b"done"])
                if n < len(messages):
                    sender, *_ = socket.recv_multipart(copy=False)
            file.close()
        return time.perf_counter() - start
    finally:
        process.join(10)
        socket.close(0)
        path.unlink(missing_ok=True)


class _File:
    """Pieces of the same bytes, written by a thread, a few of them on their way at a time."""

    def __init__(self, path: Path, pool: ThreadPoolExecutor):
        self.file, self.pool, self.size = aligned.AlignedFile(path, os.O_RDWR | os.O_CREAT), pool, 0
        self.piece, self.waiting = aligned.buffer(), deque[Future[None]]()
        self.piece[:] = b"x" * aligned.PIECE

    def grow(self, size: int) -> None:
        """Write until only part of a piece is missing."""
        while self.size + aligned.PIECE <= size:
            self.waiting.append(self.pool.submit(self.file.write, self.piece, self.size))
            self.size += aligned.PIECE
            if len(self.waiting) > ON_THEIR_WAY:
                self.waiting.popleft().result()

    def close(self) -> None:
        """Have it on the disk."""
        while self.waiting:
            self.waiting.popleft().result()
        self.file.sync()
        self.file.close()


def _send(messages: Sequence[Sequence[int]], senders: int, endpoint: str) -> None:
    """In a process of its own: so many threads send a message and wait for the answer, until all are sent."""
    context, queue = zmq.Context(), SimpleQueue[Sequence[int]]()
    largest = np.ones(max(max(sizes) for sizes in messages), np.uint8)
    for sizes in messages:
        queue.put(sizes)

    def run() -> None:
        socket = context.socket(zmq.DEALER)
        socket.connect(endpoint)
        while True:
            try:
                sizes = queue.get_nowait()
            except Empty:
                socket.close()
                return
            socket.send_multipart([largest[:size] for size in sizes], copy=False)
            socket.recv_multipart()

    threads = [threading.Thread(target=run) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
