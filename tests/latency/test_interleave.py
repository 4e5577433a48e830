"""Runs take turns, every other round backwards."""

from types import SimpleNamespace

from mmvideoiq.latency import interleave as latency
from mmvideoiq.latency.interleave import interleave


def test_rounds_go_forwards_and_backwards_and_the_first_ones_do_not_count():
    order, advanced = [], []

    def run(name):
        order.append(name)
        return len(order)

    runs = {name: lambda name=name: run(name) for name in "ab"}
    found = interleave(runs, warmup=1, repeats=2, advance=lambda: advanced.append(len(order)))
    assert "".join(order) == "abbaab"
    assert found == {"a": [4, 5], "b": [3, 6]}
    assert advanced == [1, 2, 3, 4, 5, 6]


def test_ratios_are_of_pairs_not_of_medians():
    found = latency.paired([2.0, 30.0, 8.0, 9.0, 5.0], [1.0, 10.0, 2.0, 3.0, 1.0])
    assert found["pairs"] == [2.0, 3.0, 4.0, 3.0, 5.0]
    assert (found["median"], found["quartiles"], found["range"]) == (3.0, [3.0, 4.0], [2.0, 5.0])
    alone = latency.paired([3.0], [2.0])
    assert (alone["median"], alone["quartiles"], alone["range"]) == (1.5, [1.5, 1.5], [1.5, 1.5])


def test_a_run_is_timed_by_the_clock_and_the_processor(monkeypatch):
    now = [0.0]
    clocks = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0] / 2)
    monkeypatch.setattr(latency, "time", clocks)
    assert latency.timed(lambda: now.append(now.pop() + 3.0)) == (3.0, 1.5)
