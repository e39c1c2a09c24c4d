"""How many machines a store gets and how big they are (D2, D3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectstore_infra import sizing
from objectstore_infra.sizing import VmSize


def test_small_is_three_workers_and_one_envoy() -> None:
    small = sizing.SIZES["small"]
    assert (small.workers, small.worker) == (3, VmSize(4, 2, 8192))
    assert (small.envoys, small.envoy) == (1, VmSize(2, 2, 4096))
    assert small.capacity_tib == 10


def test_custom_totals_are_spread_and_rounded_down() -> None:
    spread = sizing.spread(workers=3, vcpu_total=20, memory_gib_total=40, envoys=1)
    assert (spread.worker.vcpu, spread.worker.memory_mib) == (6, 13 * 1024)


@given(
    workers=st.integers(sizing.WORKERS_MIN, sizing.WORKERS_MAX),
    vcpu=st.integers(28, 2000),
    memory=st.integers(28, 4000),
    envoys=st.integers(1, sizing.ENVOYS_MAX),
)
def test_spreading_wastes_less_than_one_unit_per_worker(
    workers: int, vcpu: int, memory: int, envoys: int
) -> None:
    spread = sizing.spread(workers=workers, vcpu_total=vcpu, memory_gib_total=memory, envoys=envoys)
    assert 0 <= vcpu - spread.worker.vcpu * workers < workers
    assert 0 <= memory - spread.worker.memory_mib // 1024 * workers < workers
    assert spread.worker.vcpu % spread.worker.cores_per_socket == 0
    assert spread.envoys == envoys


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ((2, 20, 40, 1), "workers must be 3 to 14, not 2"),
        ((3, 5, 40, 1), "5 vCPU over 3 workers is 1 each; at least 6"),
        ((3, 20, 5, 1), "5 GB over 3 workers is 1 each; at least 6"),
        ((3, 20, 40, 0), "envoys must be 1 to 4, not 0"),
    ],
)
def test_totals_that_make_no_store_are_refused(
    figures: tuple[int, int, int, int], says: str
) -> None:
    workers, vcpu, memory, envoys = figures
    with pytest.raises(ValueError, match=says):
        sizing.spread(workers=workers, vcpu_total=vcpu, memory_gib_total=memory, envoys=envoys)
