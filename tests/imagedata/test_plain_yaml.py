import pytest

from imagedata.plain_yaml import parse_yaml


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1:23", "1:23"),  # YAML 1.1: 83
        ("586:9192", "586:9192"),
        ("no", "no"),  # YAML 1.1: False
        ("off", "off"),
        ("010", "010"),  # YAML 1.1: 8
        ("2024-01-01", "2024-01-01"),
        ("1e-3", 0.001),  # YAML 1.1: text
        ("3", 3),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ("", None),
        ("[0, 01, a]", [0, "01", "a"]),
        ("{a: 1, b: {c: x}}", {"a": 1, "b": {"c": "x"}}),
        ("recall>=0.95", "recall>=0.95"),
    ],
)
def test_values_are_what_people_mean(text, meant):
    value = parse_yaml(text)
    assert value == meant
    assert type(value) is type(meant)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{a: 1, a: 2}", "'a' is given twice"),
        ("{", "while parsing"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("!!int x", "invalid literal"),
        ("{[1]: 2}", "unhashable"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_one_line(text, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
