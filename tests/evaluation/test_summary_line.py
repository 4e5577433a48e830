import pytest

from mmvideoiq.evaluation.summary_line import summary_line

USAGE = {"cost/usage_8@112": 0.25, "cost/usage_skip": 0.75}


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        ({"acc/top1": 0.84375, "acc/mean1": 1.0, "acc/top5": 0.9}, "top1 0.844, mean1 1"),
        (
            {"acc/top1": 0.5, "cost/mean_cost": 0.0625, "cost/gflops": 3.0, **USAGE},
            "top1 0.5, cost 0.0625, usage 8@112:0.25 skip:0.75",
        ),
        ({"32": 25.314, "4": 9.0}, "32 25.3, 4 9"),
        ({"acc/confusion": [[1]], "acc/top1": 1.0}, "top1 1"),
        ({}, ""),
    ],
)
def test_metrics_in_one_line(metrics, line):
    assert summary_line(metrics) == line


def test_loss_comes_first_and_temperature_last():
    assert summary_line({"acc/top1": 0.5}, loss=2.0, temperature=4.5125) == (
        "loss 2.000, top1 0.5, temperature 4.51"
    )
