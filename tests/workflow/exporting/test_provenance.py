"""What a file and its card say of where they come from."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from outnumbered import Scorer
from workflow.inventory import versions as module
from workflow.inventory.versions import own_version, versions


@pytest.fixture(scope="module")
def folder(fitted):
    return fitted[0].folder


def test_a_file_says_which_versions_weights_images_and_settings_made_it(folder):
    info = Scorer(folder / "model.onnx").info
    assert info["versions"] == versions()
    assert info["versions"]["torch"] == metadata.version("torch")
    assert info["weights"] == {"test_efficientnet": "none: random weights"}
    assert info["weights_sha256"] == {"test_efficientnet": None}
    assert info["data"]["licence"] == "not stated"
    config = json.loads((folder / "config.json").read_text())
    assert info["digests"] == {**config["digests"], "settings": info["digests"]["settings"]}
    assert len(info["digests"]["settings"]) == 16


def test_card_and_configuration_say_the_same(folder):
    info = Scorer(folder / "model.onnx").info
    card = (folder / "deploy" / "README.md").read_text()
    assert f"sha256 `{info['sha256']}`" in card
    assert f"manifest `{info['digests']['manifest']}`" in card
    assert f", outnumbered {own_version()}, pillow " in card
    assert "the licences of both bind whoever passes it on" in card
    config = json.loads((folder / "deploy" / "config.json").read_text())
    for key in ("data", "weights", "weights_sha256", "digests", "versions"):
        assert config[key] == info[key]


def test_inspect_says_it_in_sentences(folder, command):
    said = command("inspect", folder / "model.onnx").said
    assert "Weights of test_efficientnet: none: random weights." in said
    assert "licence: not stated." in said
    assert f", outnumbered {own_version()}, pillow " in said


def test_the_version_of_a_checkout_that_is_not_installed(monkeypatch):
    installed = own_version()

    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(module.metadata, "version", version)
    assert own_version() == installed
    assert versions()["torch"] == "not installed"
