"""One look at a file: training's verdict, each refusal by its rule, measures that hold."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from contracts.errors import ImageError
from imagedata.audit.facts import laplacian_variance, look_at_bytes, look_at_file
from imagedata.audit.rules import RULES, file_findings
from imagedata.decoding.decode import DecodeSettings, decode_bytes
from tests.hostile import FORMATS, broken_files, encode, good_files
from tests.hostile_corpus import cut_jpeg, mutated, odd_files, photo


def rules_of(name: str, content: bytes, others: int = 20) -> set[str]:
    """Rules that find a file among ordinary ones."""
    ordinary = [look_at_bytes(encode(photo(1000 + i), "PNG")) for i in range(others)]
    facts = [look_at_bytes(content), *ordinary]
    paths = [name, *(f"{i}.png" for i in range(others))]
    return {finding.rule for finding in file_findings(paths, facts) if finding.path == name}


@pytest.mark.parametrize("name", sorted(odd_files()))
def test_every_odd_file_is_found_by_its_rule(name):
    content, rule = odd_files()[name]
    if content:
        assert rule in rules_of(name, content)
    assert rule in RULES


@pytest.mark.parametrize("name", sorted(good_files()))
def test_good_files_are_not_refused(name):
    facts = look_at_bytes(good_files()[name])
    assert facts.is_usable
    assert (facts.width, facts.height) == (60, 40)


@pytest.mark.parametrize("name", sorted(broken_files()))
def test_broken_files_are_refused_by_a_rule_that_is_known(name, tmp_path):
    (tmp_path / name).write_bytes(broken_files()[name])
    facts = look_at_file(tmp_path / name)
    assert not facts.is_usable
    assert facts.rule in RULES
    assert facts.problem.endswith(".")
    if name.startswith("half"):
        assert facts.rule == "truncated"


def same_verdict(content: bytes) -> None:
    """The check's own decoding and training's must refuse the same files."""
    facts = look_at_bytes(content)
    problem = ""
    try:
        decode_bytes(content, DecodeSettings(32))
    except ImageError as error:
        problem = str(error)
    assert facts.problem == problem
    assert facts.is_usable == (not problem)
    assert facts.rule in {"", *RULES}


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FORMATS), st.integers(0, 2**31))
def test_mutated_files_get_training_s_verdict(file_format, seed):
    same_verdict(mutated(encode(photo(seed % 3, 24), file_format), seed))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_large_jpegs_that_are_scaled_by_their_decoder_get_training_s_verdict(seed):
    same_verdict(mutated(encode(photo(1, 600), "JPEG", quality=60), seed))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")), st.floats(0.05, 0.95))
def test_no_file_that_is_cut_short_passes_unseen(file_format, share):
    whole = encode(photo(3), file_format)
    cut = whole[: int(len(whole) * share)]
    # Uncompressed TIFF keeps its directory at the end, so that nothing tells how long it should be.
    assert rules_of(f"a.{file_format.lower()}", cut) & {"truncated", "not_an_image", "broken", "lacks_end"}


def test_jpeg_damaged_within_is_seen_by_what_it_looks_like():
    assert rules_of("cut.jpg", cut_jpeg()) & {"grey_below", "truncated", "broken"}


def test_laplacian_is_the_slow_sum():
    grey = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    values = [
        float(grey[y - 1, x]) + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4.0 * grey[y, x]
        for y in range(1, 8)
        for x in range(1, 6)
    ]
    assert laplacian_variance(grey) == pytest.approx(np.var(values), rel=1e-5)
    assert laplacian_variance(grey[:2]) == 0.0


def test_measures_are_of_the_upright_picture():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:5, :8] = (200, 10, 10)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    facts = look_at_bytes(encode(pixels, "PNG", exif=exif.tobytes()))
    corners = np.array(facts.corners).reshape(4, 3)
    assert corners[3] == pytest.approx([200, 10, 10], abs=1)
    assert corners[:3].max() == 0
    assert facts.orientation == 3


def test_a_file_is_refused_once_and_findings_come_in_the_order_of_the_rules():
    facts = [look_at_bytes(content) for content in (b"x" * 50, encode(photo(0, 16), "PNG"))]
    findings = file_findings(["b.gif", "a.jpg"], facts)
    assert [finding.rule for finding in findings] == ["not_an_image", "wrong_extension", "tiny"]
