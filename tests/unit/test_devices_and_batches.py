"""Devices are leased disjointly on any layout; a global batch keeps its meaning on any of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.arguments import BatchPlan, batch_plan
from sweep.config import LauncherConfig, TrainerConfig
from sweep.devices import DevicePool, Machine, choose_devices
from sweep.errors import InputError

GPU8 = Machine(tuple((f"H100-{i}", f"GPU-uuid-{i}") for i in range(8)), tuple(range(64)))
LAPTOP = Machine((), (0, 1))


@given(st.integers(1, 4), st.lists(st.booleans(), max_size=60))
def test_leases_are_disjoint_and_complete(per_trial: int, moves: list[bool]) -> None:
    devices = choose_devices(GPU8, LauncherConfig(devices_per_trial=per_trial))
    pool = DevicePool(devices, per_trial)
    held: list[tuple[Any, ...]] = []
    for take in moves:
        if take:
            leased = pool.lease()
            assert (leased is None) == (len(held) == pool.slots)
            if leased is not None:
                assert len(leased) == per_trial
                held.append(leased)
        elif held:
            pool.give_back(held.pop(0))
        busy = [device for group in held for device in group]
        assert len(set(busy)) == len(busy)
        assert {*busy, *pool.free} == set(devices)
        assert len(busy) + len(pool.free) == len(devices)


def test_gpus_go_by_uuid_and_lists_pick() -> None:
    devices = choose_devices(GPU8, LauncherConfig(devices=[6, 2]))
    assert [d.key for d in devices] == ["GPU-uuid-6", "GPU-uuid-2"]
    pool = DevicePool(choose_devices(GPU8, LauncherConfig(devices_per_trial=2)), 2)
    assert pool.slots == 4
    assert "8 devices" in pool.plan()
    assert "2 per trial, 4 trials at a time" in pool.plan()


def test_cpu_shares_are_disjoint_cores() -> None:
    assert [d.cores for d in choose_devices(LAPTOP, LauncherConfig())] == [(0,), (1,)]
    assert [d.cores for d in choose_devices(LAPTOP, LauncherConfig(devices=1))] == [(0, 1)]
    many = choose_devices(Machine((), tuple(range(48))), LauncherConfig())
    assert len(many) == 8
    assert sorted(core for d in many for core in d.cores) == list(range(48))


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
        choose_devices(machine, LauncherConfig(**changes))
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
