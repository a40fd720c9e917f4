"""The table of the operations page: what the service was measured to do, from the latest records."""

from collections.abc import Callable, Iterator

from _measured import Record, latest, table, where


def markdown() -> str:
    """Each figure, its goal, and the script that measured it; benchmarks without a record are left out."""
    body = []
    for rows in SCRIPTS:
        for benchmark in BENCHMARKS.get(rows.__name__, (rows.__name__,)):
            record = latest(benchmark)
            said = f"`bench/{rows.__name__}.py`, {where(record)}" if record else ""
            body += [(what, goal, found, said) for what, goal, found in rows(record)] if record else []
    return table(("", "goal", "measured", "by"), body)


SKY = "beside 100,000 known objects and a million ephemerides"


def visit(record: Record) -> Iterator[tuple[str, str, str]]:
    for sources, found in record["found"].items():
        goal = record["goal_s"][sources]
        said = f"{found['p98_s']:.2f} s, the worst of five visits {found['p98_worst_s']:.2f} s"
        yield f"{int(sources):,} detections to archive and subscriber, p98 ({SKY})", f"{goal:g} s", said


def load(record: Record) -> Iterator[tuple[str, str, str]]:
    each = record["detections"] // record["visits"]
    seconds = f"{record['latency_median_s']:.2f}, {record['latency_p98_s']:.2f}, {record['latency_max_s']:.2f} s"
    memory = f"associator {record['memory_half_mb']:.0f} MB half way, {record['memory_end_mb']:.0f} MB at the end"
    pace = f"one every {record['period']:g} s" if record["period"] else "one after the other"
    what = f"{record['visits']:,} visits of {each:,} detections, {pace}, readout to sink: median, p98, longest"
    bare = f" (a bare loop {record['bare_s']:.2f} s)" if "bare_s" in record else ""
    yield what, "2 s", f"{seconds}{bare}; {memory}; 0 lost, 0 doubled"


def night(record: Record) -> Iterator[tuple[str, str, str]]:
    memory = (
        f"all programs {record['memory_half_mb']:.0f} MB half way, {record['memory_end_mb']:.0f} MB at the end"
    )
    what = f"a night of {record['visits']:,} visits, {record['frames']:,} small frames subtracted"
    yield what, "nothing lost", f"0 lost, 0 doubled; {memory}; {record['frames_per_s']:.1f} frames/s"


def commit(record: Record) -> Iterator[tuple[str, str, str]]:
    found = record["median_s"]
    said = f"{1000 * found['ledger, SQLite']:.0f} ms; PostgreSQL {1000 * found['ledger, PostgreSQL']:.0f} ms"
    yield "10,000 detections committed", "150 ms", said


def alert_codec(record: Record) -> Iterator[tuple[str, str, str]]:
    said = f"{record['gpudiff_per_s']:,.0f}/s (fastavro {record['fastavro_per_s']:,.0f}/s)"
    yield "alerts packed, three cutouts with their planes, 36 records of history", "5,000/s", said


def sinks(record: Record) -> Iterator[tuple[str, str, str]]:
    rates = {name: one["per_s"] for name, one in record["rates"].items()}
    said = f"{rates['zmq_full']:,.0f}/s, notices {rates['zmq_notice']:,.0f}/s; Kafka {rates['kafka_full']:,.0f}/s"
    yield "alerts published over ZeroMQ, Kafka", "10,000/s, 2,000/s", said


def intake(record: Record) -> Iterator[tuple[str, str, str]]:
    found = record["median"]
    said = f"{found['ring']:.1f} GB/s; {found['tcp']:.1f} GB/s (bare pyzmq {found['bare pyzmq']:.1f})"
    yield "frames through shared memory; one TCP socket", "4; 0.6 GB/s", said


def associate(record: Record) -> Iterator[tuple[str, str, str]]:
    found = record["milliseconds"]["associate, with tracklets"]
    yield "10,000 detections associated, with tracklets", "150 ms", f"{found:.0f} ms"
    wrong = [one["gpudiff"] for one in record["wrong_percent"].values()]
    nearest = [one["nearest neighbour"] for one in record["wrong_percent"].values()]
    said = f"{min(wrong):.2f} to {max(wrong):.2f} % (nearest neighbour {min(nearest):.2f} to {max(nearest):.2f} %)"
    yield "wrong associations", "0.1 %", said


def ephemerides(record: Record) -> Iterator[tuple[str, str, str]]:
    found = record["milliseconds"]
    said = f"{found['one visit']:.0f} ms; all of them, without the place {found['evaluate all']:.0f} ms"
    yield "a visit's Solar System objects of a million", "100 ms", said


def known_objects(record: Record) -> Iterator[tuple[str, str, str]]:
    said = f"{record['milliseconds']['gpudiff']['median']:.0f} ms"
    yield "a visit's known objects of 10 million", "50 ms", said


def filters(record: Record) -> Iterator[tuple[str, str, str]]:
    yield "100 filters over 10,000 alerts", "0.5 s", f"{record['broker_s']:.3f} s"


def archive(record: Record) -> Iterator[tuple[str, str, str]]:
    last = record["sizes"][-1]
    said = f"{last['id']['median_ms']:.2f} ms; {last['cone']['median_ms']:.2f} ms"
    yield f"one alert of {last['alerts']:,} by id; by cone", "5 ms; 20 ms", said


SCRIPTS: tuple[Callable[[Record], Iterator[tuple[str, str, str]]], ...] = (
    *(visit, load, night, commit, alert_codec, sinks),
    *(intake, associate, ephemerides, known_objects, filters, archive),
)
"""Rows of the table by the script that they are named after, in their order."""
BENCHMARKS = {"load": ("load_10000", "load_40000")}
"""Names of records that are not their script's."""
