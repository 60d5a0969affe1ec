"""Which rows a step takes, in an order that a run can go on with after it was stopped: on as many processes as there are then."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sized
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from sftprep.errors import ConfigError
from sftprep.reader.order import NO_LENGTHS, Ints, Order, OrderOptions

TAILS = ("drop", "pad")
_VERSION = 1  # of a state


class ResumableSampler(Sampler[list[int]]):
    """A batch sampler: `DataLoader(dataset, batch_sampler=ResumableSampler(dataset, 64, rank, world_size))`.

    A step takes the next `batch_size * world_size` samples of the epoch's order and deals them to the ranks in turn: the order
    is the same for any world size. An iteration goes on where the last one ended, to the end of the epoch; the next one is the
    next epoch, in another order.

    `state_dict()` says how many samples all ranks have had; it fits into JSON and is the same on every rank, which
    `load_state_dict` goes on from, whatever the rank, world size and batch size are by then. DataLoader asks for batches ahead
    of the trainer, so say how many it has had since the loop began: `state_dict(step)`. torchdata's StatefulDataLoader knows.

    shuffle: False takes the samples in the dataset's order.
    tail: what becomes of the last samples of an epoch, too few for a step: "drop" leaves them out (others in every epoch), "pad"
    makes a smaller step of them, and takes samples of the epoch's beginning once more where ranks would have unequal batches.
    group_by_length: the samples of a step are of about the same length; needs `dataset.lengths`.
    max_tokens: a batch has as many samples as have so many tokens together, `batch_size` at most; needs `dataset.lengths`.
    block: for slow disks: so many rows that lie one after another are read at about the same time.
    Raises ConfigError for options that cannot be, and for a state of another dataset, or of another order.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        *,
        shuffle: bool = True,
        tail: str = "drop",
        group_by_length: bool = False,
        max_tokens: int | None = None,
        block: int = 0,
    ) -> None:
        self._count = len(dataset)
        self._fingerprint: str = getattr(dataset, "fingerprint", "")
        self.batch_size, self.rank, self.world_size, self.seed = batch_size, rank, world_size, seed
        self.drop_last = tail == "drop"  # what other libraries ask a batch sampler for
        self._max_tokens = max_tokens
        self._options = OrderOptions(shuffle, block, batch_size * world_size if group_by_length else 0)
        self._lengths = _lengths(dataset) if group_by_length or max_tokens is not None else NO_LENGTHS
        self._check(tail)
        self.epoch = 0
        self.consumed = 0  # samples of this epoch that all ranks have been given
        self._ends = [0]  # what `consumed` was when this iteration began, and after each of its steps
        self._ends_epoch = 0

    def _check(self, tail: str) -> None:
        if tail not in TAILS:
            raise ConfigError(f"tail {tail!r}; expected {' or '.join(TAILS)}")
        if self.batch_size < 1 or not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"batch size {self.batch_size}, rank {self.rank} of {self.world_size}; expected 1 or more, and a rank below the"
                " number of ranks, from 0"
            )
        if self._options.block < 0:
            raise ConfigError(f"block {self._options.block}; expected rows, or 0")
        if self._max_tokens is not None and self._lengths.max(initial=0) > self._max_tokens:
            raise ConfigError(f"max_tokens {self._max_tokens}; the longest row has {self._lengths.max()}")
        if self._step(Order(self._count or 1, 0, 0, OrderOptions(False)), 0) is None:
            raise ConfigError(
                f"{self._count} samples are too few for a step of {self.world_size} batches of {self.batch_size}"
            )

    def __len__(self) -> int:
        """The steps of a whole epoch, this one if they are not the same in all."""
        step = self.batch_size * self.world_size
        if self._max_tokens is None:
            return self._count // step if self.drop_last else -(-self._count // step)
        return sum(1 for _ in self._steps(self._order(self.epoch), 0))

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order(self.epoch)
        if self._step(order, self.consumed) is None:
            self._begin(self.epoch + 1, 0)
            order = self._order(self.epoch)
        self._ends, self._ends_epoch = [self.consumed], self.epoch
        return self._give(order)

    def _give(self, order: Order) -> Iterator[list[int]]:
        for end, batch in self._steps(order, self.consumed):
            self.consumed = end
            self._ends.append(end)
            yield batch.tolist()
        self._begin(self.epoch + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Begin that epoch, unless it is the one that is going on."""
        if epoch != self.epoch:
            self._begin(epoch, 0)

    def state_dict(self, steps: int | None = None) -> dict[str, Any]:
        """Where the run is: after so many steps of the last iteration; or after all that it has given out."""
        if steps is not None and not 0 <= steps < len(self._ends):
            raise ConfigError(f"{steps} steps; this iteration has given out {len(self._ends) - 1}")
        epoch, consumed = (self.epoch, self.consumed) if steps is None else (self._ends_epoch, self._ends[steps])
        return {
            "version": _VERSION, "fingerprint": self._fingerprint, "samples": self._count, "seed": self.seed, "epoch": epoch,
            "consumed": consumed, "order": self._options.as_state(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: with the state's seed, and its groups of like length, which are as large as its steps were."""
        ours = self.state_dict()
        for name in ("version", "fingerprint", "samples"):
            if state.get(name) != ours[name]:
                raise ConfigError(f"the state's {name} is {state.get(name)!r}; here it is {ours[name]!r}")
        try:
            options = OrderOptions(**state["order"])
            seed, epoch, consumed = (operator.index(state[name]) for name in ("seed", "epoch", "consumed"))
        except (KeyError, TypeError):
            raise ConfigError("the state is none of a ResumableSampler") from None
        if epoch < 0 or consumed < 0:
            raise ConfigError(f"the state's epoch {epoch}, consumed {consumed}; expected 0 or more")
        if options.kind != self._options.kind:
            raise ConfigError(f"the state is of the order {options}; here it is {self._options}")
        self._options, self.seed = options, seed
        self._begin(epoch, consumed)

    def _begin(self, epoch: int, consumed: int) -> None:
        self.epoch, self.consumed = epoch, consumed

    def _order(self, epoch: int) -> Order:
        return Order(self._count, self.seed, epoch, self._options, self._lengths)

    def _steps(self, order: Order, begin: int) -> Iterator[tuple[int, Ints]]:
        """From a place in the epoch: where each step ends, and this rank's batch."""
        while step := self._step(order, begin):
            begin, _ = step
            yield step

    def _step(self, order: Order, begin: int) -> tuple[int, Ints] | None:
        """The step that begins there; None where the epoch has none left."""
        if begin >= self._count:
            return None
        if self._max_tokens is not None:
            return self._step_by_tokens(order, begin, self._max_tokens)
        end = begin + self.batch_size * self.world_size
        if end > self._count:
            if self.drop_last:
                return None
            end = begin - (begin - self._count) // self.world_size * self.world_size  # every rank has as many
        return end, order.take(begin, end)[self.rank :: self.world_size]

    def _step_by_tokens(self, order: Order, begin: int, most: int) -> tuple[int, Ints] | None:
        """Batches of samples that follow each other, rank after rank."""
        batches = []
        for _ in range(self.world_size):
            last = self._count if begin < self._count else begin + self.batch_size
            samples = order.take(begin, min(begin + self.batch_size, last))
            fitting = int(np.cumsum(self._lengths[samples]).searchsorted(most, side="right"))
            batches.append(samples[:fitting])
            if begin >= self._count and self.drop_last:
                return None
            begin += fitting
        return begin, batches[self.rank]


def _lengths(dataset: Any) -> npt.NDArray[np.int64]:
    try:
        return np.asarray(dataset.lengths, np.int64)
    except AttributeError:
        raise ConfigError(
            "group_by_length and max_tokens need a dataset that has `lengths`: tokens of each sample"
        ) from None
