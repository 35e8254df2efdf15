"""What users write after ``-o`` and in YAML files, and what they are told where it cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ExitCode, OutnumberedError, UsageError
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.documents import apply_override, parse_overrides


def resolved(
    *overrides: str, dataset: str = "gender_B", recipe: str = "quick", **options: object
) -> RunConfig:
    return resolve_config(RunOptions(dataset, overrides=overrides, recipe=recipe, **options))


# ---- overrides that work


@pytest.mark.parametrize(
    ("pair", "path", "value"),
    [
        ("folds=3", ["folds"], 3),
        ("members.cnn.l2=1e-3", ["members", "cnn", "l2"], 0.001),
        ("imbalance=1:23", ["imbalance"], "1:23"),
        ("classes=[no,yes]", ["classes"], ["no", "yes"]),
        ("deployment_prior=null", ["deployment_prior"], None),
        ("threshold=recall>=0.95", ["threshold"], "recall>=0.95"),
        ("backbone={name: resnet18, image_size: 128}", ["backbone"], {"name": "resnet18", "image_size": 128}),
        (" folds =3", ["folds"], 3),
        ("title=", ["title"], None),
    ],
)
def test_pair_is_split_and_read(pair, path, value):
    assert parse_overrides([pair]) == [(path, value)]


keys = st.text("abc", min_size=1, max_size=3)
documents = st.recursive(st.integers(), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@given(st.dictionaries(keys, documents, max_size=3), st.lists(keys, min_size=1, max_size=3), st.integers())
def test_override_changes_one_place_of_a_copy(document, path, value):
    before = repr(document)
    changed = apply_override(document, path, value)
    assert repr(document) == before
    inner = changed
    for part in path:
        inner = inner[part]
    assert inner == value
    assert {k: v for k, v in changed.items() if k != path[0]} == {
        k: v for k, v in document.items() if k != path[0]
    }


def test_overrides_reach_spec_recipe_backbone_and_members():
    config = resolved(
        "imbalance=1:10",
        "folds=3",
        "backbone.image_size=96",
        "members.cnn.l2=5",
        "members.wide={type: cnn, hidden: 32}",
        "members.own={type: patchcore, backbone: {name: resnet18}}",
        "train_counts.male=100",
        "layout.roots=[here]",
    )
    assert (config.spec.imbalance, config.spec.train_counts, config.spec.layout.roots) == (
        "1:10",
        {"male": 100},
        ["here"],
    )
    assert config.recipe.folds == 3
    assert config.decode.size == 96
    assert config.member("cnn").settings.l2 == 5
    assert config.member("wide").settings.hidden == 32
    own = config.member("own").backbone
    assert (own.name, own.image_size, own.weights_source) == ("resnet18", 96, "hub")
    assert config.member("patchcore").backbone.weights_source == "packaged"


def test_later_override_wins():
    assert resolved("folds=3", "folds=4").recipe.folds == 4


def test_covid_on_the_small_copy():
    assert resolved("test_per_class=60", dataset="covid").spec.test_per_class == 60


# ---- refusals

QUICK = "recipe quick"
REFUSED = [
    # of the pair itself
    ("folds", "-o 'folds': write key=value, such as -o folds=3."),
    ("=3", "-o '=3': write key=value, such as -o folds=3."),
    ("folds={", "-o 'folds={': the value is not readable"),
    # unknown keys at every level
    ("fold=3", "-o fold: unknown key. Did you mean 'folds'? Known keys: "),
    ("test_per_clas=3", "-o test_per_clas: unknown key. Did you mean 'test_per_class'?"),
    ("name=x", "-o name: unknown key."),
    (
        "layout.trian=x",
        "data set gender_B: unknown key 'layout.trian'. Did you mean 'train'? Known keys: folder_of_class,",
    ),
    ("backbone.nam=x", f"{QUICK}: unknown key 'backbone.nam'. Did you mean 'name'?"),
    ("members.cnn.l3=1", f"{QUICK}, member cnn: unknown key 'l3'. Did you mean 'l2'?"),
    (
        "members.patchcore.banksize=9",
        f"{QUICK}, member patchcore: unknown key 'banksize'. Did you mean 'bank_size'?",
    ),
    ("members.patchcor.bank_size=9", "recipe has no member 'patchcor', only patchcore,"),
    ("members.cnn.backbone.nam=x", f"{QUICK}, member cnn, backbone: unknown key 'nam'. Did you mean 'name'?"),
    ("members.patchcor={}", "member type 'patchcor' does not exist. Did you mean 'patchcore'?"),
    ("members.x={type: cnm}", "member type 'cnm' does not exist."),
    # wrong types and bounds
    ("folds=abc", f"{QUICK}: key 'folds': got 'abc'; input should be a valid integer"),
    ("folds=1", f"{QUICK}: key 'folds': got 1; input should be greater than or equal to 2."),
    (
        "backbone.image_size=4000",
        f"{QUICK}: key 'backbone.image_size': got 4000; input should be less than or equal to 1024.",
    ),
    (
        "members.cnn.l2=-3",
        f"{QUICK}, member cnn: key 'l2': got -3; input should be greater than or equal to 0.",
    ),
    (
        "members.cnn.tune=all",
        f"{QUICK}, member cnn: key 'tune': got 'all'; input should be 'head', 'full' or 'linear'.",
    ),
    ("members.cnn=3", f"{QUICK}: key 'members.cnn': got 3; input should be a valid dictionary."),
    ("members=null", f"{QUICK}: key 'members': got None; input should be a valid dictionary."),
    ("threshold=min_htre", "threshold rule 'min_htre' does not exist. Did you mean 'min_hter'?"),
    ("threshold=recall>=2", "threshold rule 'recall>=2': 2 is not strictly between 0 and 1."),
    ("imbalance=23:1", "imbalance: got '23:1'; the minority comes first and is the smaller, as in 1:23."),
    ("imbalance=few", "imbalance: got 'few'; write minority:majority, such as 1:23."),
    ("classes=[male]", "data set gender_B: key 'classes': got ['male']; list should have at least 2 items"),
    ("minority=femal", "minority 'femal' is none of the classes ['male', 'female']. Did you mean 'female'?"),
    ("deployment_prior=1", "key 'deployment_prior': got 1; input should be less than 1."),
    ("deployment_prior=tset", "key 'deployment_prior': got 'tset'; input should be 'test'."),
    ("window=[9,3]", "key 'window': got [9, 3]; window [9.0, 3.0] must rise"),
    ("group=(", "key 'group': got '('; it is no regular expression"),
    (
        "layout.kind=table",
        "key 'layout.kind': got 'table'; it is one of 'class_folders', 'anomaly_folders', 'label_table', ",
    ),
    (
        "layout={train: x}",
        "key 'layout.kind': missing; it is one of 'anomaly_folders', 'class_folders', 'image_folder', ",
    ),
    ("layout.train=Training", "key 'layout.train': got 'Training'; {class} must stand somewhere in it"),
    ("layout.train.x=1", "key 'layout.train': Input should be a valid string."),
    (
        "test_per_class=9",
        "test_per_class has no effect, because the test images lie in Validation/{class}",
    ),
    # what does not go together
    (
        "members.cnn.backbone.image_size=64",
        "member cnn: its backbone wants 64 px but the recipe works at 224 px.",
    ),
    (
        "members={patchcore: {}}",
        "no member 'cnn', and without the calibrated baseline no member can be judged.",
    ),
]


@pytest.mark.parametrize(("pair", "said"), REFUSED, ids=[pair for pair, _ in REFUSED])
def test_refused_in_one_sentence(pair, said):
    with pytest.raises(OutnumberedError) as caught:
        resolved(pair)
    assert caught.value.exit_code == ExitCode.USAGE
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith("..")


def test_misspelt_member_gives_the_nearest():
    with pytest.raises(UsageError, match=r"member 'cn': recipe quick has .*Did you mean 'cnn'\?"):
        resolved().member("cn")


# ---- files of the user's own


def test_recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("folds: 4\nmembers:\n  cnn:\n  other: {type: cnn, l2: 1e-2}\n")
    config = resolved(recipe=str(path), runs=tmp_path / "runs")
    assert config.recipe.name == "mine"
    assert [plan.name for plan in config.members] == ["cnn", "other"]
    assert config.member("other").settings.l2 == 0.01
    assert config.folder == tmp_path / "runs" / "gender_B" / "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("members: {cnn: {}}\nfold: 3", "recipe mine: unknown key 'fold'. Did you mean 'folds'?"),
        ("folds: 3", "recipe mine: key 'members' is missing."),
        ("folds: 3\nmembrs: {cnn: {}}", "recipe mine: unknown key 'membrs'. Did you mean 'members'?"),
        ("members: {}", "recipe mine: key 'members': dictionary should have at least 1 item"),
        ("members: {patchcore: {}}", "recipe mine: it has no member 'cnn'"),
        ("members: {cnn: {}}\nmembers: {cnn: {}}", "key 'members' is given twice"),
        ("members: {cnn: {}}\nname: a/b", "key 'name': got 'a/b'"),
        ("- cnn", "a mapping of keys is expected, got list"),
        ("members: {cnn: {l2: {}}}", "recipe mine, member cnn: key 'l2'"),
    ],
)
def test_recipe_file_with_a_fault(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        resolved(recipe=str(path))
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize(("recipe", "hint"), [("quik", "quick"), ("standart", "standard")])
def test_unknown_recipe_gives_the_nearest(recipe, hint):
    with pytest.raises(
        UsageError, match=f"recipe '{recipe}': neither one of .*quick, standard.*Did you mean '{hint}'"
    ):
        resolved(recipe=recipe)


def test_recipe_file_that_is_not_there():
    with pytest.raises(UsageError, match="nor an existing YAML file"):
        resolved(recipe="nowhere.yaml")


def test_commands_in_messages_can_be_pasted(tmp_path):
    options = RunOptions(
        "my set",
        data=tmp_path,
        overrides=("members.cnn={l2: 3}", "folds=3"),
        recipe="standard",
        seed=4,
        minority="a b",
    )
    assert options.command("train", "cnn") == (
        f"python cli.py train 'my set' cnn --data {tmp_path} --recipe standard --minority 'a b' --seed 4 "
        "-o 'members.cnn={l2: 3}' -o folds=3"
    )
