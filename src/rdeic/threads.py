"""How many threads of the processor torch works with."""

from __future__ import annotations


def share(jobs: int, threads: int | None) -> None:
    """`threads` for each of `jobs` that work at a time; None: what there is, shared among them.

    One job that asks for nothing gets what torch chose, which heeds OMP_NUM_THREADS.
    """
    if threads is None and jobs == 1:
        return
    import torch

    torch.set_num_threads(threads or max(1, torch.get_num_threads() // jobs))
