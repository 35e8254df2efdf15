"""A picture in tiles: each through the backbone by itself, one grid of features and one mean of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from contracts.backbone_graph import PATCHES, PIXELS, POOLED
from contracts.rows import FeatureShapes
from features import extract
from features.apply import batch_size_for
from features.backbones import Backbone
from features.cache import FeatureStore
from features.extract import ImageFile, extract_features
from features.graphs.backbone_graph import backbone_graph
from features.settings import BackboneSettings
from features.tensors import averaged, cut, laid_together
from imagedata.decoding.decode import DecodeSettings

SIZE = 32
CNN = {"name": "test_resnet", "patch_strides": (4, 8), "pooled_strides": (8, 16)}
VIT = {"name": "test_vit"}
TORCHVISION = {"name": "torchvision:resnet18", "patch_strides": (8,), "pooled_strides": (16,)}


def backbone_of(tiles, **settings):
    return Backbone(BackboneSettings(**{"weights": "random", "image_size": SIZE, "tiles": tiles} | settings))


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_tiles_are_slices_of_the_picture_and_lie_together_again(tiles):
    pictures = torch.rand(2, 3, 4 * tiles, 5 * tiles)
    pieces = cut(pictures, tiles)
    assert pieces.shape == (2 * tiles**2, 3, 4, 5)
    for n in range(2):
        for row in range(tiles):
            for column in range(tiles):
                slow = pictures[n, :, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
                assert torch.equal(pieces[n * tiles**2 + row * tiles + column], slow)
    assert torch.equal(laid_together(pieces, tiles), pictures)
    means = averaged(pieces.mean(dim=(2, 3)), tiles)
    torch.testing.assert_close(means, pictures.mean(dim=(2, 3)))


@pytest.mark.parametrize(("settings", "side"), [(CNN, 4), (VIT, 2)], ids=["cnn", "transformer"])
def test_each_tile_goes_through_the_backbone_by_itself(settings, side):
    """A change of one tile changes cells of that tile, and at most those next to its border."""
    whole, alone = backbone_of(3, **settings), backbone_of(1, **settings)
    assert whole.shapes.image_size == 3 * SIZE
    assert whole.shapes.patch_grid == 3 * side == 3 * alone.shapes.patch_grid
    assert whole.shapes.pooled_dim == alone.shapes.pooled_dim
    pictures = torch.rand(2, 3, 3 * SIZE, 3 * SIZE) * 255.0
    with torch.inference_mode():
        features = whole(pictures)
        pooled = torch.stack([alone(cut(picture[None], 3)).pooled.mean(dim=0) for picture in pictures])
        torch.testing.assert_close(features.pooled, pooled, rtol=1e-4, atol=1e-5)
        changed = pictures.clone()
        changed[:, :, SIZE : 2 * SIZE, SIZE : 2 * SIZE] += 60.0
        differs = (whole(changed).patches != features.patches).any(dim=1).numpy()
    # Neighbourhood pooling reaches one cell over the border, and a transformer's tokens do not.
    reach = 0 if settings is VIT else 1
    inner = slice(side - reach, 2 * side + reach)
    assert differs[:, inner, inner].all()
    differs[:, inner, inner] = False
    assert not differs.any()


@pytest.mark.parametrize(
    "settings",
    [CNN, {**CNN, "patch_grid": "finest"}, VIT, TORCHVISION],
    ids=["cnn", "finest grid", "transformer", "torchvision"],
)
def test_graph_repeats_it_at_any_batch(tmp_path, settings):
    backbone = backbone_of(2, **settings)
    graph = backbone_graph(backbone, tmp_path)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        pixels = torch.rand(batch, 3, 2 * SIZE, 2 * SIZE) * 255.0
        pooled, patches = session.run([POOLED, PATCHES], {PIXELS: pixels.numpy()})
        with torch.inference_mode():
            expected = backbone(pixels)
        np.testing.assert_allclose(pooled, expected.pooled.numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(patches, expected.patches.numpy(), rtol=5e-3, atol=2e-3)


def test_one_tile_changes_nothing(tmp_path):
    """Neither keys nor nodes: features and fits of earlier runs are found again."""
    plain = BackboneSettings(**CNN)
    assert plain == BackboneSettings(**CNN, tiles=1)
    assert "tiles" not in plain.identity()
    assert "tiles" not in plain.model_dump(mode="json")
    assert plain.working_size == plain.image_size
    two = BackboneSettings(**CNN, tiles=2)
    assert two.identity()["tiles"] == 2
    assert BackboneSettings(**two.model_dump()) == two
    assert two.working_size == 2 * two.image_size
    kinds = {node.op_type for node in backbone_graph(backbone_of(1, **CNN), tmp_path).graph.node}
    assert "Transpose" not in kinds


def test_too_large_a_picture_is_refused():
    with pytest.raises(ValidationError, match=r"8 tiles of 1024 px are 8192 px per side, more than 4096"):
        BackboneSettings(image_size=1024, tiles=8)
    with pytest.raises(ValidationError):
        BackboneSettings(tiles=0)


def test_the_network_is_given_no_more_at_once(tmp_path, monkeypatch):
    """With tiles it is given fewer pictures, so that its memory stays what it was."""
    backbone = backbone_of(3, **CNN)
    files = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)).save(path)
        files.append(ImageFile(str(number), path))
    given = []
    made = extract.backbone_runner

    def watched(*arguments):
        run = made(*arguments)

        def watching(pixels):
            given.append(pixels.shape)
            return run(pixels)

        return watching

    monkeypatch.setattr(extract, "backbone_runner", watched)
    store = FeatureStore(Path(tmp_path / "store"), backbone.shapes)
    assert extract_features(backbone, store, files, DecodeSettings(3 * SIZE), "cpu") == 5
    assert given == [(3, 96, 96, 3), (2, 96, 96, 3)]
    assert store.patches(["0", "4"]).shape == (2, backbone.shapes.patch_channels, 12, 12)


def test_members_are_given_fewer_large_grids_and_pictures():
    """Images of the usual sizes come 64 at a time as ever; of larger ones so many that memory is the same."""
    for image_size, grid, patches, images in ((224, 14, 64, 64), (448, 28, 64, 64), (896, 56, 16, 16)):
        shapes = FeatureShapes(image_size, 10, 8, grid)
        assert batch_size_for(shapes, frozenset({"patches"})) == patches
        assert batch_size_for(shapes, frozenset({"pooled", "images"})) == images
        assert batch_size_for(shapes, frozenset({"pooled"})) == 64
    assert batch_size_for(FeatureShapes(9000, 10, 8, 900), frozenset({"patches", "images"})) == 1
    assert batch_size_for(FeatureShapes(32, 0, 0, 0), frozenset({"patches"})) == 64
