from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.demo_model import captions
from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES

EVENLY = np.ones(len(CLASSES))


def among(names: list[str]) -> np.ndarray:
    return np.array([name in names for name in CLASSES])


@given(
    seed=st.integers(0, 2**32),
    present=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=5, unique=True),
)
def test_half_of_the_captions_are_true_and_a_false_one_names_one_thing_that_is_absent(
    seed: int, present: list[str]
):
    told = captions.sample(np.random.default_rng(seed), among(present), EVENLY)
    assert len(told) == captions.PER_IMAGE
    assert sum(is_true for _, is_true in told) == captions.PER_IMAGE // 2
    for named, is_true in told:
        assert 1 <= len(named) == len(set(named)) <= len(present)
        assert len(set(named) - set(present)) == (0 if is_true else 1)


def test_most_captions_name_one_class():
    rng = np.random.default_rng(0)
    present = among(list(CLASSES[:5]))
    told = [caption for _ in range(500) for caption in captions.sample(rng, present, EVENLY)]
    lengths = [len(named) for named, _ in told]
    assert 0.6 < np.mean(np.array(lengths) == 1) < 0.75
    assert max(lengths) == 5


def test_false_captions_name_what_is_likely():
    rng = np.random.default_rng(0)
    odds = np.where(among(["hot dog", "cat"]), [30.0], [1.0])
    told = [caption for _ in range(300) for caption in captions.sample(rng, among(["cat"]), odds)]
    false = [named for named, is_true in told if not is_true]
    share = np.mean([named == ["hot dog"] for named in false])
    assert abs(share - 30 / (30 + len(CLASSES) - 2)) < 0.05
