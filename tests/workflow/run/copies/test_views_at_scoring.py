"""Views at scoring: by default nothing changes, and with mirror images every fit and score is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import UsageError
from imagedata.views import MIRROR_SENTENCE, MirrorImage
from tests.conftest import Run
from workflow.exporting.student.plan import StudentPlan, student_config
from workflow.run.copies.views import views_of_run, views_to_score
from workflow.run.fits import fits_of
from workflow.run.prepared import prepare_data
from workflow.run.summary import data_facts, shape_sentences
from workflow.settings.config import RunConfig, RunOptions, difference_of_settings, resolve_config

MIRROR = "views_at_scoring=mirror"


def config_of(tiny: Run, runs: Path, *overrides: str) -> RunConfig:
    return resolve_config(
        RunOptions(str(tiny.dataset), recipe=str(tiny.recipe), runs=runs, overrides=overrides)
    )


def test_none_is_the_default_and_leaves_documents_and_keys_as_they_were(tiny: Run, tmp_path):
    config, named = config_of(tiny, tmp_path), config_of(tiny, tmp_path, "views_at_scoring=none")
    assert config.to_json() == named.to_json()
    assert "views_at_scoring" not in config.to_json()["recipe"]
    data = prepare_data(config)
    assert "views_at_scoring" not in data_facts(config, data)
    assert views_to_score(config, data.train) == []
    keys = [[fit.key for fit in fits_of(each, data, each.members)] for each in (config, named)]
    assert keys[0] == keys[1]


def test_with_mirror_images_every_fit_is_another_and_a_run_says_so(tiny: Run, tmp_path):
    config, mirror = config_of(tiny, tmp_path), config_of(tiny, tmp_path, MIRROR)
    data = prepare_data(config)
    keys = [{fit.key for fit in fits_of(each, data, each.members)} for each in (config, mirror)]
    assert not keys[0] & keys[1]
    assert difference_of_settings(config.to_json(), mirror.to_json()) == (
        'views_at_scoring=its default, but now views_at_scoring="mirror" is asked for'
    )
    assert difference_of_settings(mirror.to_json(), mirror.to_json()) is None
    assert data_facts(mirror, data)["views_at_scoring"] == "mirror"
    assert any(sentence.startswith(MIRROR_SENTENCE) for sentence in shape_sentences(mirror, 1.0))
    # All that is scored, and not what is only learnt from.
    scored = [each for row, each in views_of_run(mirror, data, ()) if isinstance(each, MirrorImage)]
    assert [each.sha256 for each in scored] == [row.sha256 for row in (*data.train, *data.test)]


def test_a_student_sees_each_image_once(tiny: Run, tmp_path):
    plan = StudentPlan.parse("small_cnn@32")
    assert student_config(config_of(tiny, tmp_path, MIRROR), plan).recipe.views_at_scoring == "none"


@pytest.mark.parametrize("value", ["both", "[mirror]", "1"])
def test_other_words_are_refused(tiny: Run, tmp_path, value):
    with pytest.raises(UsageError, match=r"key 'views_at_scoring': .*input should be 'none' or 'mirror'"):
        config_of(tiny, tmp_path, f"views_at_scoring={value}")


def test_a_mask_that_is_not_its_own_mirror_image_is_refused(tiny: Run, tmp_path):
    mask = np.zeros((48, 48), dtype=bool)
    mask[8:40, 8:40] = True
    Image.fromarray(mask).save(tmp_path / "square.png")
    mask[8:20, 8:20] = False
    Image.fromarray(mask).save(tmp_path / "corner.png")
    for roi in (tmp_path / "square.png", "[.1,.2,.5,.9]"):
        assert config_of(tiny, tmp_path, MIRROR, f"roi={roi}").region is not None
    assert config_of(tiny, tmp_path, f"roi={tmp_path / 'corner.png'}").region is not None
    with pytest.raises(UsageError, match=r"corner.png is not its own mirror image, "):
        config_of(tiny, tmp_path, MIRROR, f"roi={tmp_path / 'corner.png'}")
