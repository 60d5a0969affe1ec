"""A short training run through the reader: the trained loss falls, an answer is learned, the prompt is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks.train_sample import Losses, answer, build_sample, draw, sample_answers, train  # noqa: E402

from sftprep.reader.dataset import ShardDataset  # noqa: E402

QUESTION = "What is a loss mask?"  # of the sample's first conversation


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums that do not depend on the number of cores; and beside other tests, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return build_sample(tmp_path_factory.mktemp("sample") / "dataset")


def test_a_model_learns_the_answers_and_not_the_questions(dataset: ShardDataset) -> None:
    model, losses = train(dataset, range(8), epochs=50)
    trained, prompt = losses.by_epoch()

    assert losses.trained[0] == pytest.approx(math.log(4000), abs=0.5)  # it starts from knowing nothing
    assert trained[-1] < losses.trained[0] / 2
    assert prompt[-1] > losses.prompt[0] / 2
    assert answer(model, QUESTION) == sample_answers()[QUESTION]


def test_a_run_repeats_itself(dataset: ShardDataset) -> None:
    _, first = train(dataset, range(4), epochs=2)
    _, second = train(dataset, range(4), epochs=2)
    _, other = train(dataset, range(4), epochs=2, seed=1)

    assert first == second
    assert first != other


def test_the_same_losses_give_the_same_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, last in (("a", 0.5), ("b", 0.5), ("c", 2.5)):
        draw(Losses([8.0, 7.0, 1.5, last], [8.0, 8.0, 9.0, 9.5], epochs=2), tmp_path / f"{name}.svg")
    picture, again, other = ((tmp_path / f"{name}.svg").read_text() for name in "abc")

    assert picture == again
    assert picture != other
    assert "answers: trained" in picture
    assert "prompts: read, never trained" in picture
