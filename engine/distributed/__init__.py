"""Process group and communication of ranks. No other package imports torch.distributed.

Gradients are exchanged over NCCL on GPUs (inside `wrap`). Everything else is a few numbers on the host, exchanged over
gloo, so that no exchange here waits for a GPU. With one process, every function is a no-op.
"""

from engine.distributed.collectives import (
    all_sum,
    any_rank,
    differentiable_sum,
    first_of_each_host,
    from_rank_zero,
    gather,
    on_every_rank,
    on_rank_zero,
    one_rank_first,
    raise_everywhere,
    to_rank_zero,
)
from engine.distributed.failures import explained, failure, on_report, report
from engine.distributed.gradients import averaged, fix_ddp_buckets, share_buffers, wrap
from engine.distributed.group import common_watch, local_rank, processes, rank, restarts, world_size
from engine.distributed.joining import LAUNCH_VARIABLES, OTHER_LAUNCHERS, PeerFailed, PeerLost

__all__ = [
    "LAUNCH_VARIABLES",
    "OTHER_LAUNCHERS",
    "PeerFailed",
    "PeerLost",
    "all_sum",
    "any_rank",
    "averaged",
    "common_watch",
    "differentiable_sum",
    "explained",
    "failure",
    "first_of_each_host",
    "fix_ddp_buckets",
    "from_rank_zero",
    "gather",
    "local_rank",
    "on_every_rank",
    "on_rank_zero",
    "on_report",
    "one_rank_first",
    "processes",
    "raise_everywhere",
    "rank",
    "report",
    "restarts",
    "share_buffers",
    "to_rank_zero",
    "world_size",
    "wrap",
]
