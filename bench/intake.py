"""Frame intake: gigabytes a second from a client to a service that has verified all checksums.

Client and service are two processes on this machine; the service is the differencer's own reception, which
answers `done` as soon as a frame is accepted and, where its pixels lie in the ring, these are summed as a worker
sums them.  Through the ring: at least 4 GB/s; through one TCP socket: at least 0.6 GB/s, or within 20 % of a bare
pyzmq loop (the same bytes, DEALER to ROUTER, same checksums) in the same run.

Before anything is timed, right frames must be accepted and one whose checksum is wrong refused.
"""

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
import zmq
from _common import arguments, device, record

from gpudiff.edges import control, wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.control import Receipt
from gpudiff.edges.dead_letters import DeadLetters
from gpudiff.edges.transport import Dealer, wait
from gpudiff.model.config import Service
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.services.reception import Reception

GOAL_RING, GOAL_TCP, WITHIN = 4.0, 0.6, 0.8


def frame(visit: int, side: int) -> Frame:
    """A frame of side x side float32 pixels."""
    image = np.full((side, side), visit, np.float32)
    return Frame(f"frame {visit}", Observation(FrameId(visit, 0, 0)), image)


def serve(folder: str, endpoint: "multiprocessing.Queue[str]", stop: "multiprocessing.Event") -> None:
    """Accept frames and be through with them once all their checksums are right."""
    service = Service(credit=4)
    reception = Reception("tcp://127.0.0.1:*", service, DeadLetters(Path(folder)))
    endpoint.put(reception.router.endpoint)
    while not stop.is_set():
        if wait([reception.router], 0.2):
            reception.listen()
        while (held := reception.intake.next()) is not None:
            if held.segments:
                wire.open_envelope(held.parts, service.max_frame_bytes, reception.segments)
            reception.end(held, Receipt(held.frame.visit, held.frame.snap, held.frame.detector, None, "done"))
    reception.close()


def bare(ports: "multiprocessing.Queue[str]", stop: "multiprocessing.Event") -> None:
    """The bare loop's service: receive, sum, answer."""
    socket = zmq.Context().socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    ports.put(f"tcp://127.0.0.1:{port}")
    while not stop.is_set():
        if socket.poll(200):
            who, checksum, pixels = socket.recv_multipart(copy=False)
            assert xxhash.xxh3_128_digest(pixels.buffer) == checksum.bytes
            socket.send_multipart([who.bytes, b"done"])


def beside(work: Callable, timed: Callable[[str], list[float]], *arguments: str) -> list[float]:
    """What `timed` measures while `work` runs in a process of its own."""
    context = multiprocessing.get_context("spawn")
    endpoint, stop = context.Queue(), context.Event()
    process = context.Process(target=work, args=(*arguments, endpoint, stop))
    process.start()
    try:
        return timed(endpoint.get(timeout=60))
    finally:
        stop.set()
        process.join(10)


def through_client(ring: bool, side: int, count: int, runs: int) -> Callable[[str], list[float]]:
    """GB/s of each run of the client."""

    def timed(endpoint: str) -> list[float]:
        with FrameClient(endpoint, ring=ring) as client:
            check(client, side)
            assert client.way == ("shared memory" if ring else "socket"), client.way
            rates = []
            for run in range(runs):
                made = [frame(1000 * (run + 1) + number, side) for number in range(count)]
                start = time.perf_counter()
                receipts = list(client.send_many(made))
                rates.append(count * side * side * 4 / 1e9 / (time.perf_counter() - start))
                assert [receipt.status for receipt in receipts] == ["done"] * count
            return rates

    return timed


def check(client: FrameClient, side: int) -> None:
    """A right frame is taken (this also makes the ring's memory warm), and one with a wrong checksum is not."""
    assert all(receipt.status == "done" for receipt in client.send_many(frame(n, side) for n in range(12)))
    dealer = Dealer(client.endpoint)
    header = json.loads(wire.encode(frame(99, side), attempt=3)[1])
    header["planes"][0]["xxh3_128"] = "0" * 32
    dealer.send([wire.FRAMES, json.dumps(header).encode(), wire.as_bytes(frame(99, side).image)])
    said = dealer.receive(60)
    assert said is not None
    assert control.decode(said)["error"] == "ChecksumMismatch"
    dealer.close()


def through_bare(side: int, count: int, runs: int) -> Callable[[str], list[float]]:
    """GB/s of each run of the bare loop, four messages under way."""

    def timed(endpoint: str) -> list[float]:
        socket = zmq.Context().socket(zmq.DEALER)
        socket.connect(endpoint)
        rates = []
        for _ in range(runs):
            made = [np.full((side, side), number, np.float32) for number in range(count)]
            start, waiting = time.perf_counter(), 0
            for image in made:
                if waiting == 4:
                    socket.recv_multipart()
                    waiting -= 1
                data = memoryview(image).cast("B")
                socket.send_multipart([xxhash.xxh3_128_digest(data), data], copy=False)
                waiting += 1
            for _ in range(waiting):
                socket.recv_multipart()
            rates.append(count * side * side * 4 / 1e9 / (time.perf_counter() - start))
        socket.close(0)
        return rates

    return timed


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--side", type=int, default=4096, help="pixels along one side (%(default)s)")
    parser.add_argument("--frames", type=int, default=24, help="a run (%(default)s)")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    size = (options.side, options.frames, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        rates = {
            "ring": beside(serve, through_client(True, *size), folder),
            "tcp": beside(serve, through_client(False, *size), folder),
            "bare pyzmq": beside(bare, through_bare(*size)),
        }
    medians = {name: statistics.median(values) for name, values in rates.items()}
    good = {
        "ring": medians["ring"] >= GOAL_RING,
        "tcp": medians["tcp"] >= GOAL_TCP or medians["tcp"] >= WITHIN * medians["bare pyzmq"],
    }
    print(f"{device()}; {options.frames} frames of {options.side} x {options.side} float32, checksums verified")
    for name, rate in medians.items():
        print(f"{name:<12}{rate:6.2f} GB/s  {'pass' if good.get(name, True) else 'FAIL'}")
    record(__file__, {"shape": [options.side] * 2, "gb_per_s": rates, "median": medians, "pass": good}, options)


if __name__ == "__main__":
    main()
