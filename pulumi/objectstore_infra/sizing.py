"""How many machines a store gets and how big they are (promises D2, D3). Pure.

`small` is the reference product's size. It publishes no table for larger stores, so `medium` and
`large` are our own figures; `custom` spreads totals over the workers, rounded down. Capacity is a
planning figure: only licence and real space limit a store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MIB_PER_GIB = 1024
CORES_PER_SOCKET = 2
WORKER_VCPU_MIN = 2
WORKER_GIB_MIN = 2
WORKERS_MIN = 3
WORKERS_MAX = 14
ENVOYS_MAX = 4


@dataclass(frozen=True, slots=True)
class VmSize:
    """The size of one machine."""

    vcpu: int
    cores_per_socket: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """The machines of a store."""

    workers: int
    worker: VmSize
    envoys: int
    envoy: VmSize
    capacity_tib: int
    """What the size is planned for; 0 when the operator chose the figures."""

    def scaled(self, *, workers: int, envoys: int) -> Sizing:
        """Return it with other numbers of machines. Raises ValueError as `spread` does."""
        _check_counts(workers, envoys)
        return replace(self, workers=workers, envoys=envoys)


def _gib(vcpu: int, memory_gib: int) -> VmSize:
    cores = CORES_PER_SOCKET if vcpu % CORES_PER_SOCKET == 0 else 1
    return VmSize(vcpu, cores, memory_gib * MIB_PER_GIB)


ENVOY = _gib(2, 4)
SIZES = {
    "small": Sizing(3, _gib(4, 8), 1, ENVOY, 10),
    "medium": Sizing(4, _gib(8, 16), 2, ENVOY, 50),
    "large": Sizing(6, _gib(10, 32), 3, ENVOY, 100),
}
CUSTOM = "custom"


def spread(*, workers: int, vcpu_total: int, memory_gib_total: int, envoys: int) -> Sizing:
    """Spread totals over the workers, rounded down.

    Raises ValueError, with what would be right, when the figures make no store.
    """
    _check_counts(workers, envoys)
    vcpu, memory_gib = vcpu_total // workers, memory_gib_total // workers
    if vcpu < WORKER_VCPU_MIN:
        raise ValueError(
            f"{vcpu_total} vCPU over {workers} workers is {vcpu} each; "
            f"at least {WORKER_VCPU_MIN * workers} in total are needed"
        )
    if memory_gib < WORKER_GIB_MIN:
        raise ValueError(
            f"{memory_gib_total} GB over {workers} workers is {memory_gib} each; "
            f"at least {WORKER_GIB_MIN * workers} in total are needed"
        )
    return Sizing(workers, _gib(vcpu, memory_gib), envoys, ENVOY, 0)


def _check_counts(workers: int, envoys: int) -> None:
    if not WORKERS_MIN <= workers <= WORKERS_MAX:
        raise ValueError(f"workers must be {WORKERS_MIN} to {WORKERS_MAX}, not {workers}")
    if not 1 <= envoys <= ENVOYS_MAX:
        raise ValueError(f"envoys must be 1 to {ENVOYS_MAX}, not {envoys}")
