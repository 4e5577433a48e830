"""Runs take turns, every other round backwards."""

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
