"""Names, arguments and weights are checked before torch and anomalib are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from contracts.errors import UsageError
from oneclass.from_anomalib.catalogue import image_model_named, image_models
from workflow.settings.config import RunOptions, resolve_config
from workflow.settings.documents import validated
from workflow.settings.registry import entry_of, settings_class


def settings(name: str, **given: object):
    member_type = f"anomalib:{name}"
    return validated(settings_class(member_type), {**entry_of(member_type).defaults, **given}, "here")


def test_the_catalogue_has_what_anomalib_exports():
    import anomalib.models.image

    assert {facts.class_name for facts in image_models().values()} == set(anomalib.models.image.__all__)


def test_signatures_are_those_of_the_classes():
    import inspect

    import anomalib.models.image

    for facts in image_models().values():
        real = inspect.signature(getattr(anomalib.models.image, facts.class_name).__init__).parameters
        ours = {"pre_processor", "post_processor", "evaluator", "visualizer", "pre_trained"}
        assert set(facts.arguments) == set(real) - ours - {"self"}
        assert facts.has_pre_trained == ("pre_trained" in real)


@pytest.mark.parametrize("name", ["reverse_distillation", "ReverseDistillation", "REVERSEDISTILLATION"])
def test_case_and_underscores_do_not_matter(name):
    assert image_model_named(name).name == "reverse_distillation"


def test_a_misspelt_model_names_the_nearest():
    with pytest.raises(UsageError, match=r"anomalib has no such image model. Did you mean 'padim'"):
        entry_of("anomalib:padin")


def test_video_models_are_none_of_ours():
    with pytest.raises(UsageError, match="no such image model"):
        entry_of("anomalib:ai_vad")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arguments": {"coreset_ratio": 0.1}}, "Did you mean 'coreset_sampling_ratio'"),
        ({"arguments": {"coreset_sampling_ratio": 1.5}}, "got 1.5; it must be above 0 and at most 1"),
        ({"arguments": {"num_neighbors": 0}}, "got 0; it must be 1 or more"),
        ({"arguments": {"num_neighbors": "nine"}}, "got 'nine', but it must be int (default: 9)"),
        ({"arguments": {"layers": "layer2"}}, "got 'layer2', but it must be Sequence"),
        ({"arguments": {"pre_trained": False}}, "use the key weights"),
        ({"arguments": {"evaluator": False}}, "takes no such argument"),
        ({"weights": "packaged", "arguments": {"backbone": "resnet18"}}, "no package has those"),
        ({"weight": "random"}, "unknown key 'weight'. Did you mean 'weights'"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"image_size": 8}, "image_size"),
    ],
)
def test_wrong_settings_are_one_sentence(given, said):
    with pytest.raises(UsageError, match=r"^here: ") as caught:
        settings("patchcore", **given)
    assert said in str(caught.value)


def test_a_model_without_a_backbone_takes_no_packaged_weights():
    with pytest.raises(UsageError, match="ganomaly takes no backbone"):
        settings("ganomaly", weights="packaged")


def test_packaged_weights_bring_their_backbone_and_its_layers():
    assert settings("patchcore", weights="packaged").constructor_arguments() == {
        "backbone": "tf_efficientnet_lite0",
        "layers": ["blocks.2", "blocks.4"],
    }
    assert settings("dfm", weights="packaged").constructor_arguments()["layer"] == "blocks.4"
    given = {"backbone": "tf_efficientnet_lite1", "layers": ["blocks.1"]}
    assert settings("padim", weights="packaged", arguments=given).constructor_arguments() == given


def test_a_recipe_with_them_is_read_without_torch():
    program = (
        "import sys\n"
        "from workflow.settings.config import RunOptions, resolve_config\n"
        "config = resolve_config(RunOptions('elpv', recipe='anomalib'))\n"
        "assert any(plan.type.startswith('anomalib:') for plan in config.members)\n"
        "assert not {'torch', 'anomalib', 'timm'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_member_of_a_recipe_can_be_left_out():
    def names(*overrides: str) -> list[str]:
        options = RunOptions("elpv", recipe="quick", overrides=overrides)
        return [plan.name for plan in resolve_config(options).members]

    assert "deep_svdd" in names()
    assert names("members.deep_svdd=false") == [name for name in names() if name != "deep_svdd"]
    with pytest.raises(UsageError, match="without the calibrated baseline"):
        names("members.cnn=false")
