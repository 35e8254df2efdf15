"""The fused graph and its ONNX file: one file, any batch, any image size, numpy is enough to use it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

onnx = pytest.importorskip("onnx")

from contracts.errors import ModelError, UsageError  # noqa: E402
from contracts.member import FitContext  # noqa: E402
from contracts.scores import ScoreColumn, ScoreTable  # noqa: E402
from contracts.triage import TRIAGE_NAMES, triage_of  # noqa: E402
from ensemble.fitted import FittedEnsemble  # noqa: E402
from ensemble.module import EnsembleModule  # noqa: E402
from ensemble.pipeline import fit_fusion  # noqa: E402
from export import onnx_file, parity  # noqa: E402
from export.graph import FusedGraph, GraphMember, resized  # noqa: E402
from export.onnx_file import write_onnx  # noqa: E402
from export.parity import check_parity  # noqa: E402
from export.scorer import Scorer  # noqa: E402
from export.scoring.model import load_model  # noqa: E402
from export.scoring.promises import NEWEST_FORMAT  # noqa: E402
from export.tracing import trace  # noqa: E402
from features.backbones import Backbone  # noqa: E402
from features.settings import BackboneSettings  # noqa: E402
from features.tensors import BackboneFeatures  # noqa: E402
from oneclass.deep.deep_svdd import DeepSVDD  # noqa: E402
from oneclass.deep.settings import DeepSVDDSettings  # noqa: E402
from oneclass.patchcore.member import PatchCore  # noqa: E402
from oneclass.patchcore.settings import PatchCoreSettings  # noqa: E402
from supervised.head import HeadCnn  # noqa: E402
from supervised.settings import CnnSettings  # noqa: E402
from tests.rows import ArrayRows, Base, synthetic_rows  # noqa: E402
from tests.threads import one_thread  # noqa: E402, F401

SIZE = 64
# The made-up probabilities lie between 0 and 1, where the rounding of a float32 logit shows in full.
PROBABILITY_TOLERANCE = 2e-5
BACKBONE = BackboneSettings(
    name="test_resnet", weights="random", image_size=SIZE, patch_strides=(4, 8), pooled_strides=(8, 16)
)
NAMES = ("patchcore", "deep_svdd", "cnn")


@dataclass
class System:
    """A trained system: what a run holds when it exports."""

    backbone: Backbone
    members: list
    fitted: FittedEnsemble
    images: np.ndarray
    member_scores: np.ndarray
    path: object

    def graph(self, fitted=None):
        members = [
            GraphMember(name, "t", member.to_module())
            for name, member in zip(NAMES, self.members, strict=True)
        ]
        return FusedGraph({"t": self.backbone}, members, EnsembleModule(fitted or self.fitted), SIZE)

    @property
    def probability(self):
        return self.fitted.predict(self.member_scores)

    def write(self, path, graph=None):
        fitted = self.fitted
        metadata = {
            "classes": ["good", "bad"],
            "minority": "bad",
            "decode": {"size": SIZE, "window": None},
            "members": list(NAMES),
            "threshold": {"rule": fitted.threshold_rule, "value": fitted.threshold},
            "prior": fitted.deployment_prior,
            "trained_prior": fitted.trained_prior,
            "conformal": {"n": fitted.normal.n, "least": fitted.normal.least},
        }
        prior = None if fitted.deployment_prior is None else np.asarray(fitted.deployment_prior)
        levels = None if fitted.levels is None else fitted.levels.rates
        write_onnx(path, graph or self.graph(), prior, fitted.threshold, metadata, levels=levels)
        return path


def rows_through(backbone, seed):
    """Made-up images with the features that the backbone gives them."""
    base = synthetic_rows((50, 30), seed=seed, strength=0.1, image_size=SIZE).base
    with torch.inference_mode():
        features = backbone(torch.from_numpy(base.images).permute(0, 3, 1, 2).float())
    return ArrayRows(
        Base(base.labels, features.pooled.numpy(), features.patches.numpy(), base.images, 2, SIZE)
    )


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Its bank of 150 patches in slices, as a bank in use is.
        patch.setattr("oneclass.patchcore.module._SLICE", 50)
        yield made_system(tmp_path_factory)


def made_system(tmp_path_factory):
    backbone = Backbone(BACKBONE)
    train, held_out = rows_through(backbone, 0), rows_through(backbone, 1)
    members = [
        PatchCore(PatchCoreSettings(pca_dim=16, bank_size=150)),
        DeepSVDD(DeepSVDDSettings(hidden=16, embedding_dim=8, epochs=2)),
        HeadCnn(CnnSettings()),
    ]
    for member in members:
        member.fit(train, FitContext(0))
    scores = np.concatenate([member.score(held_out) for member in members], axis=1)
    n = len(held_out)
    table = ScoreTable(
        row_ids=np.array([str(i) for i in range(n)]),
        labels=held_out.labels,
        fold_of_row=np.arange(n) % 4,
        groups=np.arange(n),
        columns=tuple(
            ScoreColumn(name, member.kind, member.score_meaning)
            for name, member in zip(NAMES, members, strict=True)
        ),
        scores=scores,
        class_names=("good", "bad"),
        manifest_digest="0" * 16,
    )
    fitted = fit_fusion(table, "plain_mean", deployment_prior=0.1)
    made = System(backbone, members, fitted, held_out.base.images[:28], scores[:28], None)
    made.path = made.write(tmp_path_factory.mktemp("graph") / "model.onnx")
    return made


def torch_outputs(graph, images, prior, threshold, levels):
    given = [torch.tensor(value, dtype=torch.float32) for value in (prior, threshold, *levels)]
    with torch.inference_mode():
        return [output.numpy() for output in graph.eval()(torch.from_numpy(images), *given)]


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 91), (150, 40), (33, 32), (257, 300)])
def test_onnx_runtime_repeats_torch_at_any_batch_and_image_size(system, batch, shape):
    rng = np.random.default_rng(batch)
    coarse = rng.integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    images = coarse.repeat(40, axis=1).repeat(40, axis=2)[:, : shape[0], : shape[1]]
    fitted = system.fitted
    probability, p_normal, p_minority, decision, triage, scores, together, patch_map = torch_outputs(
        system.graph(), images, fitted.deployment_prior, fitted.threshold, fitted.levels.rates
    )
    ours = load_model(system.path).run(images, with_maps=True)
    assert ours.probability.shape == ours.decision.shape == (batch,)
    assert ours.anomaly_map.shape == ours.maps["patchcore"].shape == (batch, 8, 8)
    assert list(ours.maps) == ["patchcore"]
    np.testing.assert_allclose(ours.probability, probability, atol=1e-5)
    # A step of the grid where the two runtimes round a score to different sides of a knot.
    assert np.abs(ours.p_normal - p_normal).max() <= 1.01 * np.abs(np.diff(system.fitted.normal.levels)).max()
    step = np.abs(np.diff(system.fitted.minority.levels)).max()
    assert np.abs(ours.p_minority - p_minority).max() <= 1.01 * step
    assert np.array_equal(ours.decision, decision)
    assert np.array_equal(ours.triage, triage_of(ours.p_normal, ours.p_minority, *fitted.levels.rates))
    assert triage.dtype == np.int64
    # Half-precision rounding of the patches may go the other way where the engines differ in a last digit.
    np.testing.assert_allclose(ours.member_scores, scores, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.anomaly_map, together, rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(ours.maps["patchcore"], patch_map, rtol=5e-3, atol=1e-3)


class _Resized(torch.nn.Module):
    def __init__(self, fit):
        super().__init__()
        self.fit = fit

    def forward(self, images):
        return resized(images, 32, self.fit)


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_pictures_keep_their_shape_in_onnx_runtime(fit):
    """Any size and batch, with sides that only running tells."""
    axes = ({number: torch.export.Dim(name) for number, name in enumerate("NHW")},)
    given = torch.zeros(2, 48, 40, 3, dtype=torch.uint8)
    model = trace(_Resized(fit).eval(), (given,), ["images"], ["pixels"], axes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, shape in enumerate([(32, 32), (40, 48), (91, 32), (9, 300), (257, 300)], 1):
        images = np.random.default_rng(batch).integers(0, 256, (batch, *shape, 3), dtype=np.uint8)
        [found] = session.run(None, {"images": images})
        np.testing.assert_allclose(found, _Resized(fit)(torch.from_numpy(images)).numpy(), atol=1e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_score": "top_mean", "whiten": False, "pca_dim": 16},
        {"image_score": "knn_mean", "whiten": True, "pca_dim": 16, "map_size": 30, "map_sigma": 2.0},
        {"image_score": "reweighted", "whiten": False, "neighbourhood": 3, "map_sigma": 1.0},
        {"image_score": "top_or_all", "nearby": 1},
    ],
)
def test_other_forms_of_patchcore_are_traced_at_any_batch(system, tmp_path, settings):
    """Those that ``system`` has not: its bank comes in slices too, and it has the score of the defaults."""
    member = PatchCore(PatchCoreSettings(bank_size=120, **settings))
    member.fit(rows_through(system.backbone, 0), FitContext(0))
    modules = [member.to_module(), *(each.to_module() for each in system.members[1:])]
    graph = FusedGraph(
        {"t": system.backbone},
        [GraphMember(name, "t", module) for name, module in zip(NAMES, modules, strict=True)],
        EnsembleModule(system.fitted),
        SIZE,
    )
    model = load_model(system.write(tmp_path / "model.onnx", graph))
    side = settings.get("map_size", 8)
    for batch in (1, 2, 7):
        images = system.images[:batch]
        *_, scores, _, patch_map = torch_outputs(graph, images, 0.1, 0.5, (0.05, 0.05))
        ours = model.run(images, with_maps=True)
        assert ours.anomaly_map.shape == (batch, side, side)
        np.testing.assert_allclose(ours.member_scores, scores, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(ours.anomaly_map, patch_map, rtol=5e-3, atol=1e-3)


def test_working_size_gives_the_runs_own_numbers(system):
    ours = load_model(system.path).run(system.images)
    np.testing.assert_allclose(ours.probability, system.probability, atol=PROBABILITY_TOLERANCE)
    # In standard deviations around 0, where a relative tolerance grants nothing.
    np.testing.assert_allclose(ours.member_scores, system.member_scores, rtol=1e-3, atol=2e-4)
    assert system.probability.std() > 0.01


def test_error_rates_of_triage_can_be_overridden(system):
    model = load_model(system.path)
    own = model.run(system.images)
    p_values = (own.p_normal, own.p_minority)
    np.testing.assert_array_equal(own.triage, triage_of(*p_values, *system.fitted.levels.rates))
    strict = model.run(system.images, levels={"miss_rate": 0.5, "false_alarms": 0.4})
    np.testing.assert_array_equal(strict.triage, triage_of(*p_values, 0.5, 0.4))
    assert (strict.triage != own.triage).any()
    png = io.BytesIO()
    Image.fromarray(system.images[0]).save(png, "PNG")
    [first] = Scorer(system.path, levels={"miss_rate": 0.5}).score_bytes([("a.png", png.getvalue())])
    assert first.triage == TRIAGE_NAMES[int(triage_of(*p_values, 0.5, system.fitted.levels.false_alarms)[0])]
    assert first.p_minority == pytest.approx(float(own.p_minority[0]))
    with pytest.raises(UsageError, match="false_alarms is 2; it is a share of images, from 0 to 1"):
        model.run(system.images, levels={"false_alarms": 2.0})
    with pytest.raises(UsageError, match="Did you mean 'miss_rate'"):
        model.run(system.images, levels={"missrate": 0.5})


def test_other_sizes_are_resized_antialiased(system):
    """A fine checkerboard is grey from afar; nearest sampling would see one colour alone."""
    board = 255 * ((np.arange(512)[:, None] + np.arange(512)) % 2).astype(np.uint8)
    images = np.repeat(board[None, :, :, None], 3, axis=3)
    grey, black = (np.full((1, SIZE, SIZE, 3), value, dtype=np.uint8) for value in (127, 0))
    model = load_model(system.path)
    of_grey = model.run(grey).member_scores
    off = np.abs(model.run(images).member_scores - of_grey)
    assert (off < 0.1 * np.abs(model.run(black).member_scores - of_grey)).all()


def test_prior_and_threshold_have_defaults_and_can_be_overridden(system):
    model, fitted = load_model(system.path), system.fitted
    plain = model.run(system.images)
    named = model.run(system.images, prior=fitted.deployment_prior, threshold=fitted.threshold)
    assert np.array_equal(plain.probability, named.probability)
    assert np.array_equal(plain.decision, named.decision)
    assert np.array_equal(plain.decision, plain.probability >= np.float32(fitted.threshold))
    shifted = model.run(system.images, prior=0.5)
    p = plain.probability
    expected = 9.0 * p / (1 - p + 9.0 * p)  # from a prior of 0.1 to one of 0.5
    np.testing.assert_allclose(shifted.probability, expected, atol=1e-4)
    assert model.run(system.images, threshold=0.0).decision.all()
    # Only what rounds to 1 in float32 reaches it.
    assert np.array_equal(model.run(system.images, threshold=1.0).decision, plain.probability == 1.0)


def test_one_file_opset_18_and_metadata(system):
    assert [path.name for path in system.path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(str(system.path), load_external_data=False)
    assert {o.domain: o.version for o in model.opset_import}[""] == 18
    assert not [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert [value.name for value in model.graph.output] == [
        "probability",
        "p_normal",
        "p_minority",
        "decision",
        "triage",
        "member_scores",
        "anomaly_map",
        "map_patchcore",
    ]
    loaded = load_model(system.path)
    assert loaded.classes == ("good", "bad")
    assert loaded.members == NAMES
    assert loaded.decode.size == SIZE
    assert loaded.document["format"] == NEWEST_FORMAT


def count_convolutions(path):
    return sum(node.op_type == "Conv" for node in onnx.load(str(path)).graph.node)


def n_convolutions(backbone):
    return sum(isinstance(layer, torch.nn.Conv2d) for layer in backbone.modules())


def test_a_backbone_runs_once_whoever_reads_it(system, tmp_path):
    """Three members share one backbone's convolutions; a second backbone brings its own."""
    assert count_convolutions(system.path) == n_convolutions(system.backbone)
    other = Backbone(BACKBONE.model_copy(update={"name": "test_efficientnet"}))
    graph = FusedGraph(
        {"t": system.backbone, "other": other},
        [
            GraphMember("patchcore", "t", system.members[0].to_module()),
            GraphMember("cnn", "t", system.members[2].to_module()),
            GraphMember("mean", "other", MeanMember()),
        ],
        EnsembleModule(system.fitted),
        SIZE,
    )
    path = system.write(tmp_path / "two.onnx", graph)
    assert count_convolutions(path) == n_convolutions(system.backbone) + n_convolutions(other)


class PlainBackbone(torch.nn.Module):
    """Means of the pixels; quick to trace."""

    def forward(self, images):
        return BackboneFeatures(images, images.mean(dim=(2, 3)), torch.nn.functional.avg_pool2d(images, 8))


class MeanMember(torch.nn.Module):
    """Mean of the pooled features, or an answer that only running can give."""

    def __init__(self, stubborn=False):
        super().__init__()
        self.stubborn = stubborn

    def forward(self, features):
        if self.stubborn and features.pooled.sum() > 0:
            return -features.pooled[:, :1], None
        return features.pooled.mean(dim=1, keepdim=True), None


def plain_graph(system, **settings):
    members = [GraphMember(name, "t", MeanMember(**settings)) for name in NAMES]
    return FusedGraph({"t": PlainBackbone()}, members, EnsembleModule(system.fitted), SIZE)


def test_no_map_no_output(system, tmp_path):
    model = load_model(system.write(tmp_path / "flat.onnx", plain_graph(system)))
    scores = model.run(system.images[:3])
    assert scores.anomaly_map is None
    np.testing.assert_allclose(scores.member_scores[:, 0], system.images[:3].mean(axis=(1, 2, 3)), rtol=1e-4)


def test_what_cannot_be_traced_is_an_error_with_its_stage(system, tmp_path):
    with pytest.raises(ModelError, match="export, stage tracing"):
        system.write(tmp_path / "model.onnx", plain_graph(system, stubborn=True))
    assert not list(tmp_path.iterdir())


def test_ten_lines_of_numpy_and_onnxruntime_are_enough(system, tmp_path):
    np.save(tmp_path / "images.npy", system.images)
    script = f"""
import numpy as np, onnxruntime, sys, json
session = onnxruntime.InferenceSession({str(system.path)!r}, providers=["CPUExecutionProvider"])
images = np.load({str(tmp_path / "images.npy")!r})
for batch in (1, 2, 7):
    parts = [session.run(["probability"], {{"images": images[i:i + batch]}})[0]
             for i in range(0, len(images), batch)]
    print(json.dumps(np.concatenate(parts).tolist()))
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    for probabilities in lines:
        np.testing.assert_allclose(probabilities, system.probability, atol=1e-4)


def test_too_many_weights_for_one_file(system, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_MOST_WEIGHT_BYTES", 1000)
    with pytest.raises(ModelError, match=r"stage sizing: .*Use smaller backbones"):
        system.write(tmp_path / "model.onnx")


# --- the parity gate -----------------------------------------------------------------------------


def gate(system, path, **changes):
    given = {
        "member_scores": system.member_scores,
        "probability": system.probability,
        "p_normal_bounds": system.fitted.p_normal_bounds(system.member_scores, parity.FUSED_TOLERANCE),
        "spreads": system.member_scores.std(axis=0, dtype=np.float64),
    }
    return check_parity(path, system.images, parity.Expected(**{**given, **changes}))


def test_a_good_file_passes(system):
    report = gate(system, system.path)
    assert report.images == 28
    assert report.max_probability_difference < PROBABILITY_TOLERANCE
    assert list(report.max_score_difference) == list(NAMES)
    assert max(report.max_score_difference.values()) < 0.01


def altered(system, path, initialiser):
    """The file with one of its weights changed, as if a member were not the one that was scored."""
    model = onnx.load(str(system.path))
    [weight] = [t for t in model.graph.initializer if t.name == initialiser]
    values = onnx.numpy_helper.to_array(weight)
    changed = (values + 0.3 * np.abs(values).mean()).astype(values.dtype)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, initialiser))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("initialiser", "stage"),
    [
        ("members.0.raw.slices.0.minus_two_bank_and_norm", "member patchcore"),
        ("members.1.raw.centre", "member deep_svdd"),
        ("members.2.mean", "member cnn"),
        ("ensemble.intercept", "ensemble"),
    ],
)
def test_a_file_that_is_not_what_was_scored_is_refused_with_its_stage(system, tmp_path, initialiser, stage):
    path = altered(system, tmp_path / "model.onnx", initialiser)
    with pytest.raises(ModelError, match=rf"parity gate: stage {stage}: .*The file is not kept"):
        gate(system, path)


def test_a_member_without_weight_is_held_to_its_scores_too(system, tmp_path):
    """Its score is an output that people read, though no probability shows the difference."""
    scores = system.member_scores.copy()
    scores[:, 1] += scores[:, 1].std()
    with pytest.raises(ModelError, match="stage member deep_svdd"):
        gate(system, system.path, member_scores=scores)


@pytest.mark.parametrize("where", ["probability", "member_scores"])
def test_nan_does_not_pass(system, where):
    broken = {"probability": system.probability, "member_scores": system.member_scores}[where].copy()
    broken[3] = np.nan
    with pytest.raises(ModelError, match="parity gate"):
        gate(system, system.path, **{where: broken})


def test_p_normal_of_other_images_is_refused(system):
    low, high = system.fitted.p_normal_bounds(system.member_scores, parity.FUSED_TOLERANCE)
    assert (low <= high).all()
    assert np.mean(high - low) < 0.1
    with pytest.raises(
        ModelError, match=r"stage ensemble: .*its p_normal or p_minority lies up to .* outside"
    ):
        gate(system, system.path, p_normal_bounds=(low + 0.2, high + 0.2))


def test_a_frozen_batch_size_is_named(system, tmp_path):
    model = onnx.load(str(system.path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "frozen.onnx"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"parity gate: stage running at batch 2"):
        gate(system, path)
    assert parity.BATCHES == (1, 2, 7)


def test_probabilities_of_another_shape_are_refused(system):
    with pytest.raises(ModelError, match=r"probabilities of shape \(28,\) where the run has \(28, 3\)"):
        gate(system, system.path, probability=np.zeros((28, 3)))
