"""Figures and pictures: same bytes for the same data, nothing fetched, no global state touched."""

from __future__ import annotations

import base64
import io
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from evaluation.curves import curves
from evaluation.rows import class_probabilities
from reporting import figures
from reporting.content import Model, Role
from reporting.in_use.curve import review_curves
from reporting.pictures import SIDE, heat_scale, jpeg_uri, overlay, svg_uri
from tests.reporting.made_up import in_use

LABELS = np.repeat([0, 1], [40, 12]).astype(np.int64)
VALUES = {"calibrated_baseline": 0.5, "ensemble": 0.75}


@pytest.fixture(scope="module")
def models() -> list[Model]:
    rng = np.random.default_rng(0)
    p = {
        name: np.clip(rng.normal(0.2 + 0.3 * LABELS, 0.15), 0, 1)
        for name in ("calibrated baseline", "ensemble")
    }
    p = {name: class_probabilities(of_minority) for name, of_minority in p.items()}
    drawn = curves(LABELS, np.arange(52), p, prior=0.25, seed=0, n_replicates=100)
    roles: tuple[Role, ...] = ("baseline", "ensemble")
    return [
        Model(
            role,
            name,
            row_name,
            p[name],
            (p[name][:, 1] >= threshold).astype(np.int64),
            threshold,
            drawn[name],
        )
        for role, name, row_name, threshold in zip(roles, p, VALUES, (0.4, 0.5), strict=True)
    ]


def all_figures(models: list[Model]) -> dict[str, str]:
    rows = [
        {
            "name": f"member_{i}",
            "verdict": verdict,
            "minus_baseline": {"f1": [i / 10, i / 10 - 0.1, i / 10 + 0.1]},
        }
        for i, verdict in enumerate(("better", "worse", "no difference shown"))
    ]
    return {
        "precision_recall": figures.precision_recall(models, 1, VALUES, 0.2),
        "roc": figures.roc(models, VALUES),
        "reliability": figures.reliability(models, VALUES, "probability", "share"),
        "cost": figures.cost(models, 0.25),
        "decision": figures.decision(models, 0.25),
        "histogram": figures.histogram(models[0], LABELS),
        "differences": figures.differences(rows, "f1"),
    }


def test_every_figure_is_whole_repeatable_and_small(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it fails from here on
    # Asking for the backend would make matplotlib choose one, by way of pyplot.
    settings = [name for name in matplotlib.rcParams if name != "backend"]
    before = [matplotlib.rcParams[name] for name in settings]
    first, again = all_figures(models), all_figures(models)
    assert [matplotlib.rcParams[name] for name in settings] == before
    for name, svg in first.items():
        assert svg == again[name], name
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("}svg"), name
        assert not root.findall(".//{*}text"), "letters are paths"
        assert not root.findall(".//{*}metadata/{*}RDF/{*}Work/{*}date"), name
        assert len(svg) < 200_000, name


def test_the_users_matplotlibrc_changes_nothing(models):
    plain = figures.roc(models, VALUES)
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 30, "lines.linewidth": 9}):
        assert figures.roc(models, VALUES) == plain


def test_uris_hold_what_they_say():
    assert base64.b64decode(svg_uri("<svg/>").split(",")[1]) == b"<svg/>"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    uri = jpeg_uri(pixels)
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))
    assert len(uri) < 40_000
    assert jpeg_uri(pixels) == uri


def test_overlay_is_grey_where_nothing_is_odd_and_bright_where_it_is():
    pixels = np.full((32, 32, 3), (200, 100, 50), dtype=np.uint8)
    heat = np.zeros((8, 8), dtype=np.float32)
    heat[0, 0] = 10.0
    laid = overlay(pixels, heat, (0.0, 10.0)).astype(int)
    assert laid.shape == (SIDE, SIDE, 3)
    assert (laid[-1, -1] == laid[-1, -1, 0]).all()
    assert laid[0, 0, 0] - laid[0, 0, 2] > 50
    # The scale is given, so half the evidence is drawn weaker and not stretched to the brightest.
    weaker = overlay(pixels, heat / 2, (0.0, 10.0)).astype(int)
    assert weaker[0, 0].sum() < laid[0, 0].sum()


def test_scale_is_of_all_maps_and_a_flat_map_does_no_harm():
    low, high = heat_scale([np.zeros((4, 4), np.float32), np.full((4, 4), 2.0, np.float32)])
    assert (low, high) == (1.0, 2.0)
    flat = np.ones((4, 4), dtype=np.float32)
    grey = overlay(np.full((8, 8, 3), 90, np.uint8), flat, heat_scale([flat]))
    assert (grey == 90).all()


def test_the_curve_of_review_ends_where_no_fewer_images_are_left():
    triage = in_use()["triage"]
    points = triage["curve"]
    least = min(range(len(points)), key=lambda place: points[place]["people"][0])
    [drawing] = review_curves(triage)
    assert drawing.alt.count("reviewed:") == least + 1
    assert f"to {points[least]['rate']:.0%}, beyond which" in drawing.caption
