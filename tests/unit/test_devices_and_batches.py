"""Devices are leased disjointly on any layout; a global batch keeps its meaning on any of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.arguments import BatchPlan, batch_plan
from sweep.devices import Device, Machine, choose_devices
from sweep.errors import InputError
from sweep.pool import DevicePool
from sweep.schema import LauncherConfig, TrainerConfig

GPU8 = Machine(tuple((f"H100-{i}", f"GPU-uuid-{i}") for i in range(8)), tuple(range(64)), 512 * 10**9)
LAPTOP = Machine((), (0, 1), 8 * 10**9)


@given(st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(0, 40), max_size=80))
def test_no_device_is_leased_too_often_and_none_is_idle(
    per_trial: int, shared: int, moves: list[int]
) -> None:
    """Even numbers ask for a lease, odd ones give one of those held back: freed devices go on at once."""
    devices = choose_devices(GPU8, LauncherConfig(devices_per_trial=per_trial), 64)
    pool = DevicePool(devices, per_trial, shared)
    held: list[tuple[Device, ...]] = []
    for move in moves:
        busy = Counter(device for group in held for device in group)
        free = [device for device in devices if busy[device] < shared]
        if move % 2 == 0:
            assert pool.has_room() == (len(free) >= per_trial)
            leased = pool.lease()
            assert (leased is not None) == (len(free) >= per_trial)
            if leased is not None:
                assert len(set(leased)) == per_trial
                others = set(free) - set(leased)
                assert all(busy[mine] <= busy[other] for mine in leased for other in others)
                held.append(leased)
                assert len(held) <= pool.slots
        elif held:
            pool.give_back(held.pop(move % len(held)))


@pytest.mark.parametrize(
    ("per_trial", "shared", "slots"), [(1, 1, 8), (2, 1, 4), (3, 1, 2), (8, 1, 1), (1, 4, 32), (3, 2, 5)]
)
def test_a_node_of_eight_gpus_is_filled(per_trial: int, shared: int, slots: int) -> None:
    pool = DevicePool(choose_devices(GPU8, LauncherConfig(), 64), per_trial, shared)
    leases = [pool.lease() for _ in range(slots)]
    assert None not in leases
    assert pool.lease() is None
    assert pool.slots == slots


def test_gpus_go_by_uuid_and_lists_pick() -> None:
    devices = choose_devices(GPU8, LauncherConfig(devices=[6, 2]), 64)
    assert [d.key for d in devices] == ["GPU-uuid-6", "GPU-uuid-2"]
    pool = DevicePool(choose_devices(GPU8, LauncherConfig(devices_per_trial=2), 64), 2)
    assert pool.slots == 4
    assert pool.plan().startswith("8 devices, 2 per trial, 4 trials at a time: GPU 0 (H100-0), GPU 1")


def test_cpu_shares_are_disjoint_cores() -> None:
    assert [d.cores for d in choose_devices(LAPTOP, LauncherConfig(), 64)] == [(0,), (1,)]
    assert [d.cores for d in choose_devices(LAPTOP, LauncherConfig(devices=1), 64)] == [(0, 1)]
    assert [d.cores for d in choose_devices(LAPTOP, LauncherConfig(devices=[1]), 64)] == [(1,)]
    assert [d.cores for d in choose_devices(LAPTOP, LauncherConfig(devices=[0, 1]), 64)] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("launcher", "trials", "weights", "shares"),
    [
        (LauncherConfig(), 100, 90_000_000, 16),  # small models: a trial on every core
        (LauncherConfig(), 3, 90_000_000, 3),  # no share that would have nothing to do
        (LauncherConfig(devices_per_trial=2), 3, 90_000_000, 6),
        (LauncherConfig(), 100, 1_300_000_000, 5),  # 32 GB hold five of these
        (LauncherConfig(trials_per_device=2), 100, 1_300_000_000, 2),
        (LauncherConfig(devices_per_trial=4), 100, 30_000_000_000, 4),  # one trial is what was asked for
    ],
)
def test_auto_shares_the_cores_so_that_none_idles_and_memory_does(
    launcher: LauncherConfig, trials: int, weights: int, shares: int
) -> None:
    machine = Machine((), tuple(range(16)), 32 * 10**9)
    devices = choose_devices(machine, launcher, trials, weights)
    assert len(devices) == shares
    assert {len(d.cores) for d in devices} == {16 // shares}
    cores = [core for d in devices for core in d.cores]
    assert len(set(cores)) == len(cores) == 16 // shares * shares


@pytest.mark.parametrize(
    ("machine", "changes", "said"),
    [
        (LAPTOP, {"devices_per_trial": 3}, "devices_per_trial=3"),
        (LAPTOP, {"devices": 5}, "this machine has 2 cores"),
        (LAPTOP, {"accelerator": "cuda"}, "no GPU"),
        (LAPTOP, {"backend": "nccl"}, "backend=gloo"),
        (LAPTOP, {"devices": "both"}, "'both'"),
        (LAPTOP, {"devices": 0}, "at least one"),
        (GPU8, {"devices": [0, 0]}, "each once"),
        (GPU8, {"devices": [8]}, "8 GPUs"),
    ],
)
def test_devices_that_do_not_exist_are_refused(machine: Machine, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_devices(machine, LauncherConfig(**changes), 64)
    assert said in str(caught.value)


@given(st.integers(1, 512), st.integers(1, 16), st.one_of(st.none(), st.integers(1, 64)))
def test_ranks_times_share_times_accumulation_is_the_global_batch(
    batch: int, world_size: int, limit: int | None
) -> None:
    trainer = TrainerConfig(global_batch_size=batch, max_per_device_batch_size=limit)
    if batch % world_size:
        with pytest.raises(InputError, match=f"global_batch_size={batch} cannot be divided"):
            batch_plan(trainer, world_size)
        return
    plan = batch_plan(trainer, world_size)
    assert plan.per_device * plan.accumulation * world_size == batch
    assert limit is None or plan.per_device <= limit
    if limit is None or batch // world_size <= limit:
        assert plan == BatchPlan(batch // world_size, 1)
