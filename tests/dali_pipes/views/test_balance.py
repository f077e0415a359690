"""The class-balanced order: equal shares of the classes, and turns within a class, by arithmetic alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes import Shard
from dali_pipes.scan.build import load_catalog
from dali_pipes.views.balance import BalancedOrder
from dali_pipes.views.plans import TrainPlan
from tests.support.loading import make_config, with_section, write_set

LABELS = np.array([0] * 20 + [2] * 3 + [7] * 7)  # class 1 has no videos, so none is shown


def epochs(order, number, count=30):
    """Return the rows of the first epochs: [epochs, count]."""
    return np.array([order.rows(epoch, np.arange(count)) for epoch in range(number)])


def test_every_class_comes_equally_often_in_every_epoch():
    for rows in epochs(BalancedOrder(LABELS, seed=0), 5):
        assert np.unique(LABELS[rows], return_counts=True)[1].tolist() == [10, 10, 10]


def test_the_rows_of_a_class_take_turns_over_the_epochs():
    rows = epochs(BalancedOrder(LABELS, seed=0), 12).ravel()
    times_N = np.bincount(rows)  # 120 of each class in 12 epochs
    assert times_N[:20].tolist() == [6] * 20 and times_N[20:23].tolist() == [40] * 3
    assert times_N[23:].sum() == 120 and np.ptp(times_N[23:]) <= 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 3))
def test_shares_differ_by_one_at_most_and_turns_by_one(labels, seed):
    label_N = np.array(labels)
    rows = epochs(BalancedOrder(label_N, seed), 3, len(labels))
    for of_epoch in rows:
        assert np.ptp(np.unique(label_N[of_epoch], return_counts=True)[1]) <= 1
    times_N = np.bincount(rows.ravel(), minlength=len(labels))
    assert all(np.ptp(times_N[label_N == label]) <= 1 for label in labels)


def test_orders_differ_by_epoch_and_by_seed():
    one, other = (epochs(BalancedOrder(LABELS, seed), 2) for seed in (0, 1))
    assert not np.array_equal(one[0], one[1]) and not np.array_equal(one, other)


def test_a_position_gives_the_same_row_alone_and_in_any_batch():
    whole = epochs(BalancedOrder(LABELS, seed=3), 4)
    for epoch, position in ((3, 17), (0, 29), (2, 0)):
        assert BalancedOrder(LABELS, seed=3).rows(epoch, np.array([position])).tolist() == [whole[epoch, position]]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    source = write_set(tmp_path_factory.mktemp("videos"))
    return with_section(make_config(source), "data", balance="classes")


def test_ranks_divide_the_balanced_sequence(config):
    catalog = load_catalog(config.data.train, config.data)
    alone = TrainPlan(config, catalog, Shard())
    pair = [TrainPlan(config, catalog, Shard(rank, 2)) for rank in range(2)]
    for step in range(len(alone)):
        joined = np.concatenate([plan.draw(4, step).row_B for plan in pair])
        assert alone.draw(4, step).row_B.tolist() == joined.tolist()
