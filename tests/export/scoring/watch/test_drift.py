from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.scoring.watch.batch import BatchCounts
from export.scoring.watch.drift import FALSE_ALARMS, drift
from export.scoring.watch.verdict import watch_batch
from tests.export.scoring.watch.made_up import batch, batch_of, drawn, reference


@pytest.mark.parametrize("n", [20, 60, 300, 2_000])
def test_false_alarms_keep_to_the_stated_rate_whatever_the_share(n):
    alarms = 0
    for seed in range(200):
        kept = reference(seed)
        random = np.random.default_rng(1000 + seed)
        alarms += drift(kept, batch(kept, random, n, (0.0, 0.06, 0.5, 1.0)[seed % 4]))[0].alarm
    # Six or more of 200 at a rate of 1 % happen once in 60 times.
    assert alarms <= 200 * FALSE_ALARMS + 3


def test_a_change_is_found_and_comes_first():
    kept, random = reference(), np.random.default_rng(3)
    facts, score = drawn(random, 190, 10)
    facts[:, 1] -= 1.0
    first, *others = drift(kept, batch_of(kept, facts, score))
    assert (first.name, first.alarm) == ("sharpness", True)
    assert first.median == pytest.approx(-1.0, abs=0.3)
    assert first.usual == pytest.approx(0.0, abs=0.2)
    assert not any(other.alarm for other in others)


def test_one_share_has_to_explain_all_quantities():
    # Brightness says that all are of the minority, the log-odds that none is.
    kept, random = reference(), np.random.default_rng(4)
    facts, score = drawn(random, 300, 0)
    facts[:, 0] += 1.0
    assert drift(kept, batch_of(kept, facts, score))[0].alarm


def test_a_value_that_training_never_had_is_a_change():
    kept, random = reference(), np.random.default_rng(4)
    facts, score = drawn(random, 100, 0)
    facts[:, 2] = 50.0
    assert drift(kept, batch_of(kept, facts, score))[0].name == "contrast"


def test_a_twentieth_of_strange_images_is_no_alarm():
    kept, random = reference(), np.random.default_rng(5)
    facts, score = drawn(random, 2_000, 0)
    facts[:80, 2] = 50.0
    assert not drift(kept, batch_of(kept, facts, score))[0].alarm


def test_sentences_say_what_changed_and_how_often_that_is_said_wrongly():
    kept, random = reference(), np.random.default_rng(3)
    facts, score = drawn(random, 190, 10)
    fine = watch_batch(kept, batch_of(kept, facts, score))
    assert not fine.alarm
    assert fine.sentences[0] == (
        "Compared with training, these 200 images have not changed (4 quantities; in batches without "
        "a change, at most 1% raise an alarm)."
    )
    assert fine.sentences[1].startswith("Estimated share of bad: ")
    facts[:, 1] -= 1.0
    changed = watch_batch(kept, batch_of(kept, facts, score))
    assert changed.alarm
    assert "not like those of training: sharpness is lower (median -" in changed.sentences[0]
    assert changed.sentences[1] == (
        "Share of bad: not estimated; the images themselves have changed, so scores may mean something else."
    )
    assert changed.share.em is not None
    assert changed.to_json()["changes"][0]["name"] == "sharpness"


def test_what_is_not_compared_says_why():
    kept, random = reference(), np.random.default_rng(3)
    few = watch_batch(kept, batch(kept, random, 19, 0.0))
    assert few.sentences == ("19 scored images are too few to be compared with training; 20 are needed.",)
    known = watch_batch(kept, batch(kept, random, 100, 0.0), known=6)
    assert known.sentences == ("These images are not compared with training: 6 of 100 are training images.",)
    assert not known.alarm
    assert watch_batch(kept, batch(kept, random, 100, 0.0), known=5).changes


def test_counts_add_up_and_survive_a_footer():
    kept, random = reference(), np.random.default_rng(3)
    one, other = batch(kept, random, 30, 0.1), batch(kept, random, 50, 0.1)
    both = BatchCounts.from_bytes((BatchCounts.none_of(kept) + one + other).to_bytes())
    assert both.images == 80
    assert both.log_odds.sum() == 80
    assert all(counts.sum() == 80 for counts in both.counts)


def test_without_labels_a_changed_share_is_said_to_be_possible():
    kept, random = reference(), np.random.default_rng(3)
    together = replace(
        kept,
        quantities=tuple(replace(q, counts=q.counts[:1]) for q in kept.quantities),
        independent=(1.0,),
        log_odds=None,
        no_share="no minority image was labelled when the file was made.",
    )
    watch = watch_batch(together, batch(kept, random, 300, 0.9))
    assert watch.alarm
    assert "Or bad has become more frequent, which is not told apart here." in watch.sentences[0]
    assert watch.sentences[1] == (
        "Share of bad: not estimated; no minority image was labelled when the file was made."
    )
