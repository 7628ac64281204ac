"""The grammar becomes distributions, and what is stored comes back as what went in."""

from __future__ import annotations

import copy
import math
from typing import Any

import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweep.compose import compose
from sweep.dimension import parse_dimension
from sweep.errors import InputError
from sweep.files import yaml_text
from sweep.grammar import parse_override, to_hydra
from sweep.space import Params, SearchSpace, parse_space

_KNOWN = ["trainer.learning_rate", "trainer.optim", "model.num_hidden_layers", "task.max_length"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(values)
def test_any_value_survives_the_way_through_a_hydra_override(value: Any) -> None:
    back = parse_override(f"trainer.x={to_hydra(value)}").value()
    assert back == value
    assert type(back) is type(value)


@given(values)
def test_any_value_survives_the_way_through_a_trials_yaml(value: Any) -> None:
    assume("$" not in repr(value))
    back = OmegaConf.to_container(OmegaConf.create(yaml_text({"x": value})))
    assert isinstance(back, dict)
    assert back["x"] == value
    assert type(back["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(1e-5,1e-3)", FloatDistribution(1e-5, 1e-3)),
        ("interval(1,3)", FloatDistribution(1.0, 3.0)),
        ("tag(log, interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("int(interval(1,6))", IntDistribution(1, 6)),
        ("tag(log, int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("choice(0,0.01,0.1)", CategoricalDistribution([0, 0.01, 0.1])),
        ("a,null,true", CategoricalDistribution(["a", None, True])),
        ("a,b,c", CategoricalDistribution(["a", "b", "c"])),
        ("range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("tag(log, range(1e-5,1e-2,10))", CategoricalDistribution([1e-5, 1e-4, 1e-3])),
        ("tag(log, range(8,65,2))", CategoricalDistribution([8, 16, 32, 64])),
        ("range(0.5,2,0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_grammar_gives_the_distribution(text: str, distribution: Any) -> None:
    found = parse_dimension("trainer.optim", text, _KNOWN).distribution
    assert found == distribution
    assert [type(v) for v in getattr(found, "choices", [])] == [
        type(v) for v in getattr(distribution, "choices", [])
    ]


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("trainer.learning_rat", "interval(0,1)", "Did you mean 'trainer.learning_rate'?"),
        ("trainer.learning_rate", "interval(1,1)", "empty or reversed"),
        ("trainer.learning_rate", "interval(2,1)", "empty or reversed"),
        ("trainer.learning_rate", "tag(log, interval(0,1))", "must lie above 0"),
        ("trainer.learning_rate", "choice()", "empty choice"),
        ("trainer.learning_rate", "choice(1,true)", "the same value twice"),
        ("trainer.learning_rate", "range(3,3)", "contains nothing"),
        ("trainer.learning_rate", "tag(log, range(0,1,10))", "the step multiplies"),
        ("trainer.learning_rate", "0.1", "plain value"),
        ("trainer.learning_rate", "tag(lin, interval(0,1))", "'lin'"),
        ("trainer.learning_rate", "interval(1", "cannot be read"),
        ("study.seed", "choice(1,2)", "no setting of a trial"),
        ("task.limit", "choice(1,2)", "decides the data of the whole study"),
        ("model", "choice(minilm,hub)", "a whole group"),
    ],
)
def test_what_no_trial_could_be_drawn_from_is_refused(path: str, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_dimension(path, text, [*_KNOWN, "task.limit", "model.path"])
    assert said in str(caught.value)
    assert path.split(".")[-1] in str(caught.value)


def _as_hydra(cfg: DictConfig, space: SearchSpace, params: Params) -> Any:
    """The trial's config by the text of its overrides, as Hydra reads it: what `apply` means."""
    trial = cfg.copy()
    OmegaConf.set_struct(trial, False)
    for text in space.overrides(params):
        override = parse_override(text)
        OmegaConf.update(trial, override.key_or_group, override.value(), merge=False)
    return OmegaConf.to_container(trial, resolve=True)


_REFERENCES = [
    "${study.seed}",
    "${trainer.seed}",
    "${.seed}",
    "${trainer.data_seed}",
    "x-${trainer.seed}",
    "7",
]


@given(st.sampled_from(_REFERENCES), st.sampled_from(_REFERENCES), st.booleans())
def test_interpolations_are_resolved_early_only_where_nothing_varies(a: str, b: str, varies: bool) -> None:
    assume("data_seed" not in a)
    words = [f"+trainer.data_seed={a}", f"+trainer.adam_beta1={b}"]
    cfg = compose([*words, *(["trainer.seed=choice(7,8)"] if varies else ["study.seed=3"])])
    space = parse_space(cfg)
    params = {"trainer.seed": 8, "trainer.learning_rate": 1e-3}
    assert space.apply(params) == _as_hydra(cfg, space, params)


def test_a_trial_gets_its_parameters_with_interpolations_following() -> None:
    cfg = compose(
        [
            "trainer.seed=choice(7,8)",
            "+trainer.data_seed=${trainer.seed}",
            "+model.config.layer_types=choice([a,b],[c])",
        ]
    )
    space = parse_space(cfg)
    before = copy.deepcopy(space.tree)
    params = {
        "trainer.seed": 8,
        "+ignored": 1,
        "model.config.layer_types": "['a','b']",
        "trainer.learning_rate": 5e-4,
    }
    trial = space.apply(params)
    assert trial["trainer"]["data_seed"] == 8
    assert trial["model"]["config"]["layer_types"] == ["a", "b"]
    assert trial["trainer"]["learning_rate"] == 5e-4
    assert trial == _as_hydra(cfg, space, params)
    assert space.tree == before, "the study's config must not change"


@given(st.data())
def test_what_optuna_draws_is_what_the_trial_gets(data: st.DataObject) -> None:
    low = data.draw(st.floats(1e-9, 1e3))
    high = data.draw(st.floats(low * 1.01, low * 1e6))
    log = data.draw(st.booleans())
    inner = f"interval({low!r},{high!r})"
    cfg = compose(
        [
            f"trainer.learning_rate={f'tag(log,{inner})' if log else inner}",
            "model.num_hidden_layers=int(interval(1,6))",
            "trainer.optim=adamw_torch,sgd,'1e-3',null,0.5",
        ]
    )
    space = parse_space(cfg)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(data.draw(st.integers(0, 99))))
    drawn = study.ask()
    params = space(drawn)
    tree = space.apply(params)
    assert tree == _as_hydra(cfg, space, params)
    assert OmegaConf.create(yaml_text(tree)) == tree, "what is kept of a trial says the same"
    trial = tree["trainer"]
    assert trial["learning_rate"] == params["trainer.learning_rate"]
    assert low <= trial["learning_rate"] <= high
    assert tree["model"]["num_hidden_layers"] in range(1, 7)
    assert trial["optim"] == params["trainer.optim"]
    assert type(trial["optim"]) is type(params["trainer.optim"])
    fixed = optuna.trial.FixedTrial(drawn.params, drawn.number)
    assert space(fixed) == params, "other ranks see a FixedTrial and must get the same"


def test_a_plain_override_fixes_and_a_sweep_override_adds_or_replaces() -> None:
    fixed = compose(["trainer.learning_rate=3e-5"])
    assert "trainer.learning_rate" not in fixed.space
    assert fixed.trainer.learning_rate == 3e-5
    replaced = compose(["trainer.learning_rate=interval(1,2)", "trainer.weight_decay=choice(0,1)"])
    assert replaced.space["trainer.learning_rate"] == "interval(1,2)"
    assert replaced.space["trainer.weight_decay"] == "choice(0,1)"
    assert replaced.space["trainer.global_batch_size"] == "choice(16, 32)"


def test_grid_enumerates_choices_and_ranges_and_names_every_interval() -> None:
    cfg = compose(["space=none", "trainer.optim=choice(a,b)", "model.num_hidden_layers=range(1,7,2)"])
    assert parse_space(cfg).grid() == [
        {"model.num_hidden_layers": layers, "trainer.optim": optim}
        for layers in (1, 3, 5)
        for optim in ("a", "b")
    ]
    cfg = compose(["trainer.weight_decay=interval(0,1)"])
    with pytest.raises(InputError) as caught:
        parse_space(cfg).grid()
    assert "trainer.weight_decay" in str(caught.value)
    assert "trainer.learning_rate" in str(caught.value)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 7))
def test_ranges_have_exactly_hydras_values(start: int, length: int, step: int) -> None:
    found = parse_dimension("task.max_length", f"range({start},{start + length},{step})", _KNOWN)
    assert found.enumerate() == list(range(start, start + length, step))
    assert set(found.corners()) <= set(range(start, start + length, step))


def test_corners_cover_ends_and_choices() -> None:
    cfg = compose(["space=none", "trainer.learning_rate=interval(1,2)", "trainer.optim=choice(a,b)"])
    space = parse_space(cfg)
    assert isinstance(space, SearchSpace)
    found = [next(iter(params.items())) for params in space.corners()]
    assert ("trainer.optim", "b") in found
    assert any(v == 1.0 for _, v in found) and any(math.isclose(v, 2.0) for k, v in found if "lear" in k)
