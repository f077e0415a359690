"""The watch of a rank: the rank that it names if there is no progress."""

import json
import threading
import time
from types import SimpleNamespace

import pytest

from engine import activity, watch
from engine.watch import Watch


class Store(dict):
    """The store of several ranks, in one process."""

    def set(self, key, value):
        self[key] = value

    def get(self, key):
        return self[key].encode()

    def check(self, keys):
        return all(key in self for key in keys)


@pytest.fixture
def ended(monkeypatch):
    """Return a function that waits until the watch ends the process, and returns the reason."""
    reasons, happened = [], threading.Event()

    def end(self, reason):
        if not (self._stopped.is_set() or happened.is_set()):  # a thread of the test before may still be running
            reasons.append(reason)
            happened.set()

    monkeypatch.setattr(Watch, "_end", end)

    def wait():
        assert happened.wait(60)
        return reasons[0]

    return wait


def other(**its):
    return json.dumps(
        {"name": "waiting for data", "joint": False, "factor": 1.0, "step": 7, "age": 0.0, "beat": 1, **its}
    )


def test_a_wait_that_lasts_too_long_is_named_with_its_file(ended):
    with activity.doing("waiting for data", detail=lambda: "/videos/a.mp4"), Watch(0.2):
        activity.progress(3)
        assert ended().startswith(
            "no progress for 0.2 s (runtime.timeout): rank 0 was waiting for data (/videos/a.mp4), step 3, for "
        )


def test_time_in_which_the_process_was_stopped_does_not_count(monkeypatch):
    """As by SIGSTOP, Ctrl-Z, or the suspension of a job or a container."""
    monkeypatch.setattr(watch, "BEAT", 0.05)
    reasons, stopped, looks, looked = [], [0.0], [], threading.Event()
    share = Watch._share

    def look(self):
        looks.append(self)
        if len(looks) == 2:
            stopped[0] += 1000.0
        if len(looks) == 6:
            looked.set()
        return share(self)

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + stopped[0], sleep=time.sleep)
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(activity, "time", clock)
    monkeypatch.setattr(Watch, "_share", look)
    monkeypatch.setattr(Watch, "_end", lambda self, reason: reasons.append(reason))
    with activity.doing("waiting for data"), Watch(500.0):
        assert looked.wait(60)
    activity.progress()
    assert not reasons


def test_a_rank_that_waits_for_others_names_the_one_that_does_not_answer(ended, monkeypatch):
    monkeypatch.setattr(watch, "ANSWER", 0.2)
    store = Store({"activity-1": other()})
    with activity.doing("in a training step", joint=True), Watch(0.2, 0, 2, store):
        assert "rank 1 does not answer; before, rank 1 was waiting for data, step 7" in ended()
    assert store["failed"].startswith("no progress")


def test_two_ranks_that_check_each_other_at_once_both_answer(ended, monkeypatch):
    monkeypatch.setattr(watch, "ANSWER", 0.8)
    monkeypatch.setattr(watch, "BEAT", 0.2)
    store = Store()
    with activity.doing("in a training step", joint=True), Watch(0.2, 0, 2, store), Watch(0.2, 1, 2, store):
        assert "does not answer" not in ended()


def test_a_rank_waits_while_another_makes_progress(ended, monkeypatch):
    monkeypatch.setattr(watch, "ANSWER", 0.2)
    looks, stall = [], Watch._stall

    class Working(Store):
        """Another rank that works, and stalls after three looks at it."""

        def get(self, key):
            if key != "activity-1":
                return super().get(key)
            looks.append(key)
            return other(beat=len(looks), age=0.1 if len(looks) < 9 else 9.0).encode()

    found = []
    monkeypatch.setattr(Watch, "_stall", lambda self, mine: found.append(stall(self, mine)) or found[-1])
    with activity.doing("in a training step", joint=True), Watch(0.2, 0, 2, Working({"activity-1": ""})):
        assert "rank 1 was waiting for data, step 7, for 9 s" in ended()
    assert found[:2] == [None, None]


def test_a_report_of_another_rank_ends_this_rank(ended, monkeypatch):
    monkeypatch.setattr(watch, "GRACE", 0.1)
    with Watch(60.0, 0, 2, Store(failed="rank 1: ValueError: no")):
        assert ended() == "rank 1: ValueError: no"


def test_only_the_first_report_is_delivered_and_only_once(monkeypatch):
    heard, store = [], Store()
    told = threading.Event()
    with Watch(4.0, 0, 2, store) as watcher:
        watcher.on_report["interrupted"] = lambda reason: (heard.append(reason), told.set())
        watcher.report("interrupted", "SIGTERM")
        watcher.report("interrupted", "SIGHUP")
        assert told.wait(60)
    assert heard == ["SIGTERM"]


def test_a_store_that_does_not_answer_is_queried_once(monkeypatch):
    monkeypatch.setattr(watch, "ANSWER", 0.1)
    asked, never = [], threading.Event()

    class Silent(Store):
        def check(self, keys):
            asked.append(keys)
            never.wait()

    store = watch.BoundedStore(Silent())
    for _ in range(3):
        with pytest.raises(TimeoutError):
            store.check(["a"])
    never.set()
    assert asked == [["a"]] and store.lost


def test_errors_and_answers_of_a_store_are_passed_on():
    store = watch.BoundedStore(Store(a="1"))
    assert store.get("a") == b"1" and not store.check(["b"])
    with pytest.raises(KeyError):
        store.get("b")
