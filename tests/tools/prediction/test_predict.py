"""tools/predict.py gives the scores of evaluation, and predicts every video or names the reason."""

import csv
import itertools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import configs
from dali_pipes import DataError
from dali_pipes.feed import choice
from dali_pipes.feed.decoders import DALI_CPU
from dali_pipes.scan import build
from dali_pipes.scan.probe import probe
from dali_pipes.views.windows import whole_windows
from engine import loaders, runtime
from engine.evaluation.accuracy import NOT_FINITE
from engine.evaluation.evaluate import evaluate
from engine.evaluation.scores import ScoreCollector
from engine.inference import predict
from engine.inference.network import open_network
from engine.inference.saved_model import load_saved_model
from engine.output_record import RECORD
from tests.support import tiny
from tests.support.videos import write_video
from tools.predict import main
from tools.prediction import output
from tools.prediction import run as answering

VIDEOS = {"a.mp4": "libx264", "b.webm": "libvpx-vp9", "c.avi": "mpeg4", "d.mkv": "libx265", "e.mov": "mjpeg"}
SCORES = {"logits": "logits", "probs": "log_probs"}  # the name of the average in a score file
ROUNDING = 1e-5  # for logits of the order of 1: libraries sum in another order for another batch
ON_GPU = 1e-2  # TF32; cuDNN chooses its kernels in every process
NAMES = ("up", "down", "[left] or right")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return videos of several codecs and lengths, and weights of a network whose scores differ between them."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "videos").mkdir()
    for number, (name, codec) in enumerate(VIDEOS.items()):
        write_video(folder / "videos" / name, codec, 5 + 9 * number, gop=6, size=(48, 96 + 16 * number))
    config = tiny.config(data={"source": "video", "train": "unknown"}, runtime={"device": "cpu", "precision": "fp32"})
    tiny.save_network(config, folder / "best.pt", class_names=NAMES)
    return folder


@pytest.fixture
def run(folder, monkeypatch, capfd):
    """Return a function that calls predict.py with the weights; it returns exit code, stdout and stderr."""

    def run(*arguments, weights=folder / "best.pt"):
        monkeypatch.setattr(sys, "argv", ["predict.py", "--weights", str(weights), *map(str, arguments)])
        code = main()
        return (code, *capfd.readouterr())

    return run


def evaluated(folder, overrides, device="cpu"):
    """Return {row: [K]}: the scores that `eval.py --scores` keeps of the videos that it can read."""
    saved = load_saved_model(folder / "best.pt", overrides=[f"runtime.device={device}", *overrides])
    (folder / "all.list").write_text("".join(f"videos/{name} 0\n" for name in VIDEOS))
    listed = replace(saved.info.config.data, train=str(folder / "all.list"), val=str(folder / "all.list"))
    config = runtime.resolve(replace(saved.info.config, data=listed))
    loader = loaders.open_loader(config, "test", torch.device(device))
    keeper = ScoreCollector()
    result = evaluate(runtime.place(saved.model, config.runtime, loader.device), loader, config, keep=keeper.add)
    scores = keeper.gather(loader, result, {})
    loader.close()
    return dict(zip(scores.row.tolist(), getattr(scores, SCORES[config.eval.average]), strict=True))


def scanned(folder, catalog_folder):
    paths = [str(folder / "videos" / name) for name in VIDEOS]
    return build.scan_videos(paths, catalog_folder, "demux")


def predicted(folder, overrides, catalog_folder, device="cpu"):
    """Return {row: [K]}: the scores of predictions, for every video."""
    network = open_network(folder / "best.pt", overrides=[f"runtime.device={device}", *overrides])
    catalog = scanned(folder, catalog_folder)
    found = [prediction for (prediction,) in predict.predict(network, catalog, whole_windows(catalog), {})]
    assert sorted(prediction.window.row for prediction in found) == list(range(len(VIDEOS)))
    clips = network.info.config.eval.clips
    assert all(prediction.frames_NT.shape == (clips, network.info.config.eval_frames) for prediction in found)
    return {prediction.window.row: prediction.score_K for prediction in found}


def assert_close(some, others, tolerance):
    assert list(some) == list(others)
    np.testing.assert_allclose(np.stack(list(some.values())), np.stack(list(others.values())), 0, tolerance)


@pytest.mark.parametrize(
    "overrides",
    [
        ["eval.batch=3"],
        ["eval.batch=2", "eval.crops=ten", "eval.clips=2", "eval.average=probs"],
        ["eval.batch=4", "eval.sampling=dense", "eval.crops=three", "eval.size=full", "eval.short_side=32"],
    ],
)
def test_scores_are_those_of_evaluation_to_the_bit(folder, tmp_path, overrides):
    scores = evaluated(folder, overrides)
    assert len({score_K[0] for score_K in scores.values()}) == len(VIDEOS)
    assert_close(predicted(folder, overrides, tmp_path), scores, tolerance=0)


def test_scores_do_not_depend_on_the_other_videos_of_a_batch(folder, tmp_path):
    together = predicted(folder, ["eval.batch=3"], tmp_path)
    network = open_network(folder / "best.pt", overrides=["runtime.device=cpu", "eval.batch=3"])
    catalog = scanned(folder, tmp_path)
    for row, score_K in together.items():
        ((alone,),) = predict.predict(network, catalog, whole_windows(catalog)[row : row + 1], {})
        np.testing.assert_array_equal(alone.score_K, score_K)


def test_fewer_videos_than_a_batch_change_no_more_than_rounding(folder, tmp_path):
    assert_close(predicted(folder, [], tmp_path), evaluated(folder, ["eval.batch=8"]), ROUNDING)


@pytest.mark.gpu
def test_on_a_gpu_scores_are_those_of_evaluation_and_nothing_stays_undecoded(folder, tmp_path):
    overrides = ["eval.batch=3", "runtime.precision=fp32"]
    scores, all_scores = evaluated(folder, overrides, "cuda"), predicted(folder, overrides, tmp_path, "cuda")
    assert 0 in scores  # H.264
    assert_close({row: all_scores[row] for row in scores}, scores, ON_GPU)


def test_every_video_gets_a_table_an_object_and_its_rows(folder, run, tmp_path):
    before = sorted((folder / "videos").iterdir())
    code, out, _ = run(folder / "videos", "--json", tmp_path / "o.jsonl", "--csv", tmp_path / "o.csv", "--top-k", 2)
    answers = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert code == 0
    assert [Path(answer["path"]).name for answer in answers] == list(VIDEOS)
    assert sorted((folder / "videos").iterdir()) == before
    for number, answer in enumerate(answers):
        first, second = answer["top"]
        assert first["probability"] > second["probability"] > 0
        assert first["name"] == NAMES[first["label"]]
        assert f"{first['name']}" in out and f"{100 * first['probability']:.1f} %" in out and answer["path"] in out
        written = [(row["path"], row["rank"], row["name"]) for row in rows[2 * number : 2 * number + 2]]
        assert written == [(answer["path"], "1", first["name"]), (answer["path"], "2", second["name"])]
        frames = 5 + 9 * number
        assert answer["video"] | {"codec": ""} == {
            "width": 96 + 16 * number, "height": 48, "frames": frames, "fps": 30.0, "codec": ""
        }  # fmt: skip
        assert answer["clips"][0]["frames"] == [frames // 4, 3 * frames // 4]
        assert answer["clips"][0]["seconds"] == pytest.approx([n / 30 for n in answer["clips"][0]["frames"]], abs=1e-3)
        assert answer["end"] == pytest.approx(frames / 30, abs=1e-3)
    assert {len(answer["weights"]) for answer in answers} == {64}


@pytest.mark.parametrize("form", [output.json_lines, output.table])
def test_a_disk_too_full_for_an_answer_is_named(form):
    refused = pytest.raises(DataError, match="/dev/full: cannot be written: No space left on device")
    with refused, form(Path("/dev/full")) as write:
        write({"path": "a.mp4", "error": "is empty"})


def test_fields_of_a_csv_are_no_spreadsheet_formulas(tmp_path):
    with output.table(tmp_path / "o.csv") as write:
        write({"path": "=a.mp4", "top": [{"label": 0, "name": "@c", "probability": 0.5}]})
        write({"path": "-b.mp4", "error": "+1"})
    guess, failure = csv.DictReader((tmp_path / "o.csv").open())
    assert (guess["path"], guess["name"], guess["probability"]) == ("'=a.mp4", "'@c", "0.5")
    assert (failure["path"], failure["error"]) == ("'-b.mp4", "'+1")


def test_unreadable_videos_are_named_and_change_the_exit_code(folder, run, tmp_path):
    bad, good = tmp_path / "b\udcffd [x].mp4", folder / "videos" / "a.mp4"
    bad.write_bytes(b"not a video")
    (tmp_path / "hollow").mkdir()
    sources = bad, good, tmp_path / "gone.mp4", tmp_path / "hollow"
    code, out, err = run(*sources, "--json", tmp_path / "o.jsonl", "--csv", tmp_path / "o.csv")
    errors = {Path(x["path"]).name: x["error"] for x in map(json.loads, (tmp_path / "o.jsonl").open()) if "error" in x}
    assert code == 3
    assert errors == {
        "b\udcffd [x].mp4": "is damaged, or not a video",
        "gone.mp4": "no such file",
        "hollow": "contains no videos",
    }
    assert "gone.mp4: no such file" in err and str(good) in out
    assert run(*sources, "--strict")[0] == 2
    assert run(bad)[0] == 2
    assert run(good, "--strict")[0] == 0


def test_a_video_whose_scores_are_no_numbers_is_of_no_class_and_named(folder, tmp_path):
    network = open_network(folder / "best.pt", overrides=["runtime.device=cpu"])
    catalog, score, unreadable = scanned(folder, tmp_path), network.score, {}

    def breaking(clips_BTCHW):
        logits_BK = score(clips_BTCHW)
        return torch.where(torch.arange(len(logits_BK))[:, None] == 1, torch.nan, logits_BK)

    windows = whole_windows(catalog)
    answers = list(predict.predict(replace(network, score=breaking), catalog, windows, unreadable))
    assert [prediction.window.row for (prediction,) in answers] == [0, 2, 3, 4]
    assert unreadable == {1: NOT_FINITE}


def test_errors_of_the_user_are_one_line(folder, run, tmp_path, monkeypatch, capfd):
    video = folder / "videos" / "a.mp4"
    for arguments, words in [
        ([video, "evl.clips=3"], "did you mean eval.clips"),
        ([video, "--top-k", 0], "--top-k: 0 is not above 0"),
        ([video, "--stride", 1], "--stride: is the distance between windows"),
        ([video, "--json", tmp_path / "no" / "o.jsonl"], "there is no folder"),
        ([], "no video given"),
        ([tmp_path / "gone.list"], "gone.list: no such file"),
    ]:
        try:
            code, _, err = run(*arguments)
        except SystemExit as leaving:
            code, err = leaving.code, capfd.readouterr().err
        assert (code, words in err, "Traceback" in err) == (2, True, False), err


@pytest.mark.parametrize("flag", ["--json", "--csv"])
def test_a_list_that_is_read_and_a_users_file_are_not_replaced_by_answers(folder, run, tmp_path, flag):
    listed, mine = tmp_path / "a.list", tmp_path / "mine"
    listed.write_text(f"{folder}/videos/a.mp4 0\n")
    mine.write_text("mine")
    before = listed.read_bytes()
    for force in ([], ["--force"]):
        code, _, err = run(listed, flag, listed, *force)
        assert code == 2 and "a.list: is a source of this command, which is never replaced" in err
    code, _, err = run(listed, flag, mine)
    assert code == 2 and "mine: is in the way" in err
    assert (listed.read_bytes(), mine.read_text()) == (before, "mine")


def test_an_interrupted_job_keeps_its_finished_predictions(folder, run, tmp_path, monkeypatch):
    def one_answer(*arguments, **options):
        yield from itertools.islice(predict.predict(*arguments, **options), 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(answering, "predict", one_answer)
    code, _, err = run(folder / "videos", "--json", tmp_path / "o.jsonl")
    assert (code, err) == (130, "predict.py: interrupted\n")
    assert [Path(json.loads(line)["path"]).name for line in (tmp_path / "o.jsonl").open()] == ["a.mp4"]


def test_scores_below_min_score_are_no_action(folder, run, tmp_path):
    video, json_file = folder / "videos" / "c.avi", tmp_path / "o.jsonl"
    certain = json.loads(json_file.read_text())["top"][0] if run(video, "--json", json_file)[0] == 0 else None
    code, shown, _ = run(video, "--json", json_file, "--csv", tmp_path / "o.csv", "--min-score", "1")
    assert code == 0 and "no action" in shown and NAMES[0] not in shown
    nothing = {"label": -1, "name": "no action", "probability": certain["probability"]}
    assert json.loads(json_file.read_text())["top"] == [nothing]
    assert ",1,-1,no action," in (tmp_path / "o.csv").read_text()
    below = certain["probability"] - 0.01
    run(video, "--json", json_file, "--min-score", below)
    assert json.loads(json_file.read_text())["top"] == [certain]
    run(video, "--json", json_file, "--min-score", "1", "--sliding", "0.2")
    timeline = json.loads(json_file.read_text())
    assert [segment["name"] for segment in timeline["segments"]] == ["no action"]
    assert {window["top"][0]["label"] for window in timeline["windows"]} == {-1}


def test_a_video_is_explained_by_a_strip_and_an_overlay(folder, run, tmp_path):
    video, json_file = folder / "videos" / "c.avi", tmp_path / "o.jsonl"
    code, shown, _ = run(video, "--json", json_file, "--explain", tmp_path / "why")
    answer = json.loads(json_file.read_text())
    found = answer["explained"]
    assert code == 0 and str(tmp_path / "why" / "c.explained.png") in shown
    assert found["label"] == answer["top"][0]["label"] and found["frames"] == answer["clips"][0]["frames"]
    assert abs(sum(found["frame_shares"]) - 1) < 1e-4
    with Image.open(found["strip"]) as strip:
        assert strip.width == 2 * (16 + 2) - 2 and strip.height > 2 * 16
    with av.open(found["video"]) as copy, av.open(str(video)) as original:
        assert len(list(copy.decode(video=0))) == len(list(original.decode(video=0)))
    assert run(video, "--explain", tmp_path / "why", "--min-score", "1")[0] == 3


def test_features_are_those_before_the_classifier(folder, run, tmp_path):
    code, *_ = run(folder / "videos", "--features", tmp_path / "f.npz", "--json", tmp_path / "o.jsonl")
    found = np.load(tmp_path / "f.npz")
    answers = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert code == 0 and len(answers) == len(VIDEOS) == len(found["path"])
    assert found["frame"].shape == (5, 1, 2, 64) and found["clip"].shape == (5, 64)
    assert [Path(path).name for path in found["path"]] == [Path(answer["path"]).name for answer in answers]
    saved = load_saved_model(folder / "best.pt", overrides=["runtime.device=cpu"])
    logits_NK = saved.model.fc(torch.from_numpy(found["frame"].mean((1, 2)))).detach()
    for probability_K, answer in zip(logits_NK.softmax(1).numpy(), answers, strict=True):
        for guess in answer["top"]:
            assert abs(probability_K[guess["label"]] - guess["probability"]) < 1e-3
    assert found["frame_numbers"][0, 0].tolist() == answers[0]["clips"][0]["frames"]


def test_each_window_has_features(folder, run, tmp_path):
    run(folder / "videos" / "e.mov", "--features", tmp_path / "f.npz", "--json", tmp_path / "o.jsonl", "--sliding", 0.5)
    found, answer = np.load(tmp_path / "f.npz"), json.loads((tmp_path / "o.jsonl").read_text())
    assert found["start"].tolist() == [window["start"] for window in answer["windows"]]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_each_part_named_by_a_list_gets_a_record(folder, run, tmp_path, ending):
    name = folder / "videos" / "e.mov"
    rows = [{"path": str(name), "start": 0.2, "end": 0.5}, {"path": str(name), "start": 0.4, "end": None}]
    listed = tmp_path / f"parts.{ending}"
    if ending == "jsonl":
        listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        listed.write_text(f"video,time_start,time_end\n{name},0.2,0.5\n{name},0.4,\n")
    files = ("--json", tmp_path / "a.jsonl", "--features", tmp_path / "a.npz")
    code, _, _ = run(listed, *files)
    assert code == 0
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first["path"] == second["path"] == str(name)
    assert (first["start"], first["end"], second["start"]) == pytest.approx((0.2, 0.5, 0.4), abs=0.04)
    assert second["end"] == pytest.approx(second["video"]["frames"] / second["video"]["fps"], abs=0.04)
    assert all(first["start"] <= at < first["end"] for clip in first["clips"] for at in clip["seconds"])
    assert np.load(tmp_path / "a.npz")["start"].tolist() == [first["start"], second["start"]]


def test_a_missing_part_is_named_and_options_for_whole_videos_are_refused(folder, run, tmp_path):
    name = folder / "videos" / "e.mov"
    listed = tmp_path / "parts.jsonl"
    listed.write_text(json.dumps({"path": str(name), "start": 1000, "end": 1001}) + "\n")
    code, _, said = run(listed)
    assert code == 2 and "before its part from 1000 s to 1001 s begins" in said
    code, _, said = run(listed, "--sliding", "1")
    assert (
        code == 2
        and f"--sliding: takes whole videos, and the list asks for parts (start, end), such as of {name}" in said
    )


def test_settings_of_the_machine_that_trained_are_not_taken_over(folder, tmp_path):
    content = torch.load(folder / "best.pt")
    content["config"] |= {"runtime.device": "cuda", "data.decoder": "nvdec", "runtime.threads": 64}
    torch.save(content, tmp_path / "elsewhere.pt")
    config = open_network(tmp_path / "elsewhere.pt", overrides=["runtime.device=cpu"]).info.config
    assert (config.runtime.threads, config.data.decoder) == (1, "auto")


def test_class_names_can_be_given_and_must_be_as_many_as_classes(folder, tmp_path):
    content = torch.load(folder / "best.pt")
    torch.save(content | {"class_names": ()}, tmp_path / "bare.pt")
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\nthree\n")
    assert open_network(tmp_path / "bare.pt").info.name(2) == "2"
    assert open_network(tmp_path / "bare.pt", overrides=[f"data.class_names={names}"]).info.name(2) == "three"
    assert open_network(folder / "best.pt", overrides=[f"data.class_names={names}"]).info.name(2) == "three"
    assert open_network(folder / "best.pt", overrides=["data.class_names="]).info.name(2) == "2"
    names.write_text("one\ntwo\n")
    with pytest.raises(configs.ConfigError, match="2 names for a network of 3 classes"):
        open_network(tmp_path / "bare.pt", overrides=[f"data.class_names={names}"])


def test_class_names_in_another_order_are_refused_and_renamed_ones_are_logged(folder, tmp_path, caplog):
    own, names = torch.load(folder / "best.pt")["class_names"], tmp_path / "names.txt"
    names.write_text("\n".join(reversed(own)))
    with pytest.raises(configs.ConfigError, match="has the network's classes in another order"):
        open_network(folder / "best.pt", overrides=[f"data.class_names={names}"])
    names.write_text("\n".join(["else", *own[1:]]))
    open_network(folder / "best.pt", overrides=[f"data.class_names={names}"])
    assert f"renames classes of the network, such as {own[0]!r} to 'else'" in caplog.text


def test_each_video_uses_its_decoder_and_results_are_in_order(folder, tmp_path, monkeypatch):
    expected = predicted(folder, ["eval.batch=2"], tmp_path)
    monkeypatch.setattr(choice, "choose_graph_decoder", lambda asked, device: (DALI_CPU, ""))  # VP9 and MJPEG
    found = predicted(folder, ["eval.batch=2"], tmp_path)
    assert list(found) == list(expected) == [0, 1, 2, 3, 4]
    for row, scores in found.items():
        np.testing.assert_allclose(scores, expected[row], atol=0.1)


def test_a_timeline_covers_the_video_and_its_windows_are_scored_as_videos_of_their_own(folder, run, tmp_path):
    path = folder / "videos" / "e.mov"
    options = "--sliding", 0.4, "--stride", 0.2, "--json", tmp_path / "o.jsonl", "--csv", tmp_path / "o.csv"
    code, out, _ = run(path, *options)
    (answer,) = map(json.loads, (tmp_path / "o.jsonl").open())
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    segments, found = answer["segments"], answer["windows"]
    assert code == 0
    starts = [round(30 * window["start"]) for window in found]
    assert starts == [0, 6, 12, 18, 24, 29]
    assert [round(30 * window["end"]) for window in found] == [start + 12 for start in starts]
    assert [window["clips"][0]["frames"] for window in found] == [[start + 3, start + 9] for start in starts]
    assert (segments[0]["start"], segments[-1]["end"]) == (0, pytest.approx(41 / 30, abs=1e-3))
    assert [a["end"] for a in segments[:-1]] == [b["start"] for b in segments[1:]]
    assert [row["name"] for row in rows] == [segment["name"] for segment in segments]
    assert "0:00.0 – 0:0" in out


def damaged(path):
    """Write a video of 30 frames in groups of 10, of which the second is damaged; a scan does not see it."""
    write_video(path, "libx264", 30, gop=10)
    content, offset = bytearray(path.read_bytes()), int(probe(str(path)).offsets[15])
    content[offset + 8 : offset + 60] = bytes(52)
    path.write_bytes(content)
    return path


def test_a_video_with_an_unreadable_part_has_no_timeline(folder, run, tmp_path):
    half, good = damaged(tmp_path / "half.mp4"), folder / "videos" / "e.mov"
    code, _, _ = run(half, good, "--sliding", 0.3, "--json", tmp_path / "o.jsonl")
    answer, failure = map(json.loads, (tmp_path / "o.jsonl").open())
    assert code == 3
    assert (answer["path"], failure["path"]) == (str(good), str(half))
    assert "segments" in answer and "damaged" in failure["error"]


def test_parts_without_a_result_do_not_take_it_from_the_other_parts_of_their_video(folder, run, tmp_path):
    half, listed = damaged(tmp_path / "half.mp4"), tmp_path / "parts.csv"
    asked = ((0.0, 0.3), (0.4, 0.6), (0.7, 1.0), (9.0, None))
    listed.write_text("path,start,end\n" + "".join(f"{half},{start},{end or ''}\n" for start, end in asked))
    code, _, said = run(listed, "--json", tmp_path / "o.jsonl", "--csv", tmp_path / "o.csv")
    first, third, *failures = map(json.loads, (tmp_path / "o.jsonl").open())
    assert code == 3 and "2 of 4 cannot be answered" in said and f"{half} from 0.4 s to 0.6 s: " in said
    assert (first["start"], third["start"]) == (0, 0.7) and "top" in first and "top" in third
    assert [(failure["start"], failure["end"]) for failure in failures] == [(0.4, 0.6), (9, None)]
    assert "damaged" in failures[0]["error"] and "before its part from 9 s" in failures[1]["error"]
    in_table = [(row["start"], row["end"]) for row in csv.DictReader((tmp_path / "o.csv").open()) if row["error"]]
    assert in_table == [("0.4", "0.6"), ("9.0", "")]


def test_a_video_is_labelled_or_the_reason_is_printed(folder, run, tmp_path):
    good, half = tmp_path / "g\udcff.mp4", damaged(tmp_path / "half.mp4")  # in a group that no clip needs
    shutil.copy(folder / "videos" / "a.mp4", good)
    code, out, err = run(good, half, "--save-video", tmp_path / "new", "--json", tmp_path / "o.jsonl")
    one, other = map(json.loads, (tmp_path / "o.jsonl").open())
    assert code == 3
    assert one["labelled"] == str(tmp_path / "new" / "g\udcff.labelled.mp4")
    assert "g\\udcff.labelled.mp4" in out
    assert other["top"] and "damaged" in other["labelled_error"]
    assert "half.mp4: not labelled: " in err
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [RECORD, "g\udcff.labelled.mp4"]
