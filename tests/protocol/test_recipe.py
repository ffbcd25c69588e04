"""Structure recipes: what they mean and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import ProtocolError
from cantlie.protocol.recipe import Combination, Margin, Name, names_in, parse_recipe


def test_recipe_is_read_from_left_to_right_with_overlap_first():
    recipe = parse_recipe("Liver - GTV* - (Kidney_L + 'my bowel') & BODY")
    assert recipe == Combination(
        "-",
        Combination("-", Name("Liver"), Name("GTV*")),
        Combination("&", Combination("+", Name("Kidney_L"), Name("my bowel")), Name("BODY")),
    )
    assert names_in(recipe) == ("Liver", "GTV*", "Kidney_L", "my bowel", "BODY")


def test_margins_and_rings_are_read():
    assert parse_recipe("expand(SpinalCord, 5)") == Margin("expand", Name("SpinalCord"), (5.0,))
    assert parse_recipe("ring(PTV1 + PTV2, 0, 20.5) - Liver").first.distances_mm == (0.0, 20.5)
    assert parse_recipe("expand") == Name("expand")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("Liver -", "ends too early"),
        ("Liver GTV", "wrong place"),
        ("(Liver", "'\\)' is missing"),
        ("- Liver", "name is missing"),
        ("expand(Liver)", "',' is missing"),
        ("expand(Liver, GTV)", "distance"),
        ("ring(Liver, 5, 5)", "must be larger"),
        ("Liver % GTV", "'%' is not understood"),
    ],
)
def test_wrong_recipe_is_refused_with_the_reason(text, reason):
    with pytest.raises(ProtocolError, match=reason):
        parse_recipe(text)


names = st.sampled_from(["Liver", "GTV*", "Kidney_L", "Bag Bowel", "A_b.c~"]).map(Name)
recipes = st.recursive(
    names,
    lambda inner: st.one_of(
        st.builds(Combination, st.sampled_from("+-&"), inner, inner),
        st.builds(Margin, st.just("expand"), inner, st.tuples(st.sampled_from([1.0, 2.5]))),
        st.builds(Margin, st.just("ring"), inner, st.just((0.0, 20.0))),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(recipes)
def test_a_recipe_reads_back_from_its_own_text(recipe):
    assert parse_recipe(str(recipe)) == recipe
