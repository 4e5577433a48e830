"""``tools/test.py --report``: the page of a tested checkpoint."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.visualization.evaluation_report import write_evaluation
from mmvideoiq.visualization.page import LIMIT
from tests.visualization.html_page import ReportPage, columns_of
from tests.visualization.test_training_curves import write_scalars


@pytest.fixture(scope="module")
def test(load_tool):
    return load_tool("test.py")


def report_of(path, **changes):
    given = dict(
        name="toy",
        checkpoint="https://host/x.pth",
        metrics={"acc/top1": 0.75, "cost/usage_4": 0.5, "cost/gflops": 12345.678, "text": "x"},
        clips=[],
        classes=[],
        names=(),
        frames_of=lambda place: None,
        command="python tools/test.py 'a b.py'",
        machine={"device": "cpu"},
    )
    write_evaluation(path, **given | changes)
    return ReportPage(path.read_text())


def test_figures_without_clips(tmp_path):
    page = report_of(tmp_path / "new.html")
    assert columns_of(page.tables["figures"][0]) == {
        "": ["acc/top1", "usage of 4", "cost/gflops"],
        "value": ["75.0 %", "50.0 %", "1.235e+04"],
    }
    assert "python tools/test.py 'a b.py'" in page.texts["to-run-it-again"]
    assert list(page.tables) == ["figures", "environment"]
    assert ["device", "cpu"] in page.tables["environment"][0]


def test_clips_of_several_labels_have_strips_and_no_matrix(tmp_path):
    clips = [dict(gt_label=[0, 1], pred_label=1, pred_score=0.5, actions=None, filename=None)]
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    page = report_of(tmp_path / "x.html", clips=clips, classes=["a", "<b>"], frames_of=lambda place: frames)
    assert "several labels" in page.texts["confusion-matrix"]
    assert "a, <b> ✓ <b> 50 %" in page.texts["easiest-and-hardest-clips"]
    assert len(page.images["easiest-and-hardest-clips"]) == 3


def test_a_page_with_everything_stays_below_the_limit(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 150, 250, 3), dtype=np.uint8)
    labels = rng.integers(0, 400, (2000, 2)).tolist()
    clips = [
        dict(gt_label=a, pred_label=b, pred_score=0.5, actions=[0, 1] * 150, filename="v" * 9000)
        for a, b in labels
    ]
    for start in range(3):
        write_scalars(tmp_path, start=f"run{start}", epochs=3000, policy=True)
    page = report_of(
        tmp_path / "x.html",
        checkpoint=str(tmp_path / "epoch_3000.pth"),
        clips=clips,
        classes=["c" * 5000] * 400,
        names=("32", "skip"),
        frames_of=lambda place: noise,
        metrics={f"metric {k}": float(k) for k in range(500)},
    )
    assert 500_000 < len(page.source.encode()) <= LIMIT
    assert len(page.images["easiest-and-hardest-clips"]) >= 2 * 2 * 8
    assert page.source.count("<svg") == 4


def test_the_command_writes_the_page_of_what_it_tested(test, tsn_config, tmp_path):
    """MMAction2's own TSN: no actions, and the labels that ``--dump`` writes."""
    init_default_scope("mmaction")
    model = Config.fromfile(tsn_config).model
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), tmp_path / "tsn.pth")
    write_scalars(tmp_path)
    out, dump = tmp_path / "page.html", tmp_path / "dump.pkl"
    where = ["--work-dir", str(tmp_path / "w"), "--report", str(out), "--dump", str(dump)]
    test.main([str(tsn_config), str(tmp_path / "tsn.pth"), *where, "--cfg-options", "experiment_name=paged"])
    page = ReportPage(out.read_text())
    counts = np.zeros((2, 2), int)
    for clip in pickle.loads(dump.read_bytes()):
        counts[int(clip["gt_label"]), int(clip["pred_label"])] += 1
    matrix = [[int(cell or 0) for cell in row[1:-1]] for row in page.tables["confusion-matrix"][0][1:]]
    assert np.array_equal(np.pad(matrix, (0, 2 - len(matrix))), counts)
    figures = dict(page.tables["figures"][0][1:])
    assert figures["acc/top1"] == f"{100 * counts.trace() / 8:.1f} %"
    images = page.images["easiest-and-hardest-clips"]
    easiest = min(counts.trace(), 4)
    assert len(images) == 2 * (easiest + min(6, 8 - easiest)) and set(
        page.kinds["easiest-and-hardest-clips"]
    ) == {"plain"}
    assert "loss in training" in page.texts["training"]
    assert f"tools/test.py {tsn_config} {tmp_path / 'tsn.pth'} " in page.texts["to-run-it-again"]
    assert not list(tmp_path.glob(".*.part*"))


@pytest.mark.slow
def test_a_policy_has_its_actions_under_the_frames(test, repo, tmp_path):
    """The demo's shipped checkpoint, and the trace that its cost metric writes."""
    data = tmp_path / "data"
    make_synthetic(data, train=1, val=1, test=16, seed=7)
    out, trace = tmp_path / "page.html", tmp_path / "trace.json"
    test.main(
        [
            str(repo / "configs/videoiq/demo_videoiq.py"),
            shutil.copy(repo / "zoo/demo/demo_videoiq.pth", tmp_path),
            *("--work-dir", str(tmp_path / "w"), "--report", str(out), "--cfg-options"),
            *(f"test_dataloader.dataset.data_root={data}", "test_dataloader.num_workers=0"),
            *("test_dataloader.persistent_workers=False", f"test_evaluator.1.trace_file={trace}"),
            "experiment_name=paged_policy",
        ]
    )
    page, clips = ReportPage(out.read_text()), json.loads(trace.read_text())
    kinds = [kind for kind in page.kinds["easiest-and-hardest-clips"] if kind]
    assert len(kinds) == 12 * 6 and {"skip", "done"} == set(kinds)
    scores = sorted(range(16), key=lambda place: -clips[place]["pred_score"])
    right = [place for place in scores if clips[place]["pred_label"] == clips[place]["gt_label"]]
    best = [clips[place]["actions"] for place in right[:6]]
    names = ("32", "4", "2", "skip")
    assert kinds[-36:] == [
        "skip" if names[action] == "skip" else "done" for actions in best for action in actions
    ]
    figures = dict(page.tables["figures"][0][1:])
    skipped = np.mean([np.array(clip["actions"]) == 3 for clip in clips])
    assert figures["usage of skip"] == f"{100 * skipped:.1f} %"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gone/x.html", "there is no folder"),
        (".", "is a folder; name a file"),
        ("/proc/x.html", "no file can be written"),
    ],
)
def test_where_no_page_can_be_written_is_said_before_anything_is_read(
    test, tsn_config, tmp_path, capsys, place, message
):
    (tmp_path / "x.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(SystemExit) as ended:
        test.main(
            [
                str(tsn_config),
                str(tmp_path / "x.pth"),
                "--report",
                str(tmp_path / place),
                "--work-dir",
                str(tmp_path),
            ]
        )
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert ended.value.code == 2 and f"error: --report {tmp_path / place}: {message}" in line
