"""Run tools/predict.py on a camera or network stream: log changes while it runs, write the record at its end."""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from collections.abc import Iterator

import numpy as np

from dali_pipes import DataError
from dali_pipes.feed.live import live_frames
from engine.console import printable
from engine.inference.live import LivePrediction, predict_frames, predict_windows
from engine.inference.network import Network, open_network
from engine.outputs import Outputs
from tools.prediction.answer import edges, latency, named_segments
from tools.prediction.output import writer

logger = logging.getLogger(__name__)


def follow(args: Namespace) -> None:
    """Follow a camera or a stream, and write its record."""
    outputs = Outputs([args.weights, args.config], args.force)
    outputs.check(args.json, args.csv)
    network = open_network(str(args.weights), args.config, args.overrides)
    with writer(args.json, args.csv, outputs) as write:
        write({"path": args.live, **answer(network, args.live, args)})


def answer(network: Network, source: str, args: Namespace) -> dict:
    """Predict a stream to its end, or until Ctrl-C; log each change of the class, and return the record.

    Raises DataError if the source cannot be opened or has no frame, FloatingPointError if its first scores are not
    finite, ConfigError for --online if the network is not causal.
    """
    predictions: list[LivePrediction] = []
    began = time.perf_counter()
    try:
        for prediction in _predictions(network, source, args):
            predictions.append(prediction)
            _tell_change(network, predictions, args.min_score)
    except KeyboardInterrupt:
        logger.info(f"stopped after {predictions[-1].end if predictions else 0:.1f} s")
    except (DataError, FloatingPointError) as error:
        if not predictions:
            raise
        logger.warning(error)
    if not predictions:
        raise DataError(source, "ended before there was anything to predict")
    return record(network, predictions, args, time.perf_counter() - began)


def record(network: Network, predictions: list[LivePrediction], args: Namespace, seconds: float) -> dict:
    """Build the record of a stream that was followed for `seconds`."""
    span_W2 = np.array([[prediction.start, prediction.end] for prediction in predictions])
    edge_W1 = edges(span_W2) if args.sliding else np.append(span_W2[:, 0], span_W2[-1, 1])
    views = {"crops": "center", "every": args.every, "smooth": args.smooth}
    if args.sliding:
        views = {"crops": "center", "clips": 1, "frames": network.info.config.eval_frames}
    return {
        "segments": named_segments(network, edge_W1, predictions, args.min_score),
        "predictions": len(predictions),
        "windows_per_s" if args.sliding else "frames_per_s": round(len(predictions) / seconds, 3),
        "latency_ms": latency([prediction.ms for prediction in predictions]),
        "views": views,
        "weights": network.info.sha256,
        "ms": round(1000 * seconds, 3),
    }


def _predictions(network: Network, source: str, args: Namespace) -> Iterator[LivePrediction]:
    if args.online:
        return predict_frames(network, network.open_stream(), live_frames(source), args.every, args.smooth)
    return predict_windows(network, live_frames(source), args.sliding, args.stride or args.sliding / 2)


def _tell_change(network: Network, predictions: list[LivePrediction], min_score: float) -> None:
    """Log the newest top class if it differs from the previous one."""
    names = [
        network.info.name(best.label) if best.probability >= min_score else "no action"
        for best in (prediction.best for prediction in predictions[-2:])
    ]
    if len(names) == 1 or names[0] != names[1]:
        newest = predictions[-1]
        logger.info(f"{newest.end:.1f} s  {printable(names[-1])}  {100 * newest.best.probability:.1f} %")
