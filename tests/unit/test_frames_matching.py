"""What a user's function receives."""

import ast
import functools
import textwrap

import polars as pl
import pytest

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.frames import FrameKind, Inputs, check_signature, match_arguments


def given(function, inputs=("orders",), params=None, extras=None):
    """Return what each argument of the function gets: an input's frame is its id in capitals."""
    call = match_arguments(function, {name: name.upper() for name in inputs}, params or {}, "CONTEXT", extras)
    args, kwargs = call.arguments(lambda wanted: wanted.frame)
    return function(*args, **kwargs)


def test_reserved_names_come_first():
    def f(spark, inputs, params, context):
        return spark, inputs, params, context

    assert given(f, params={"n": 1}, extras={"spark": "SPARK"}) == ("SPARK", {"orders": "ORDERS"}, {"n": 1}, "CONTEXT")


def test_frames_come_by_node_id_in_any_order():
    def f(users, orders):
        return users, orders

    assert given(f, ["orders", "users"]) == ("USERS", "ORDERS")


def test_a_hyphen_is_an_underscore():
    assert given(lambda my_orders, users: my_orders, ["my-orders", "users"]) == "MY-ORDERS"


def test_inside_a_branch_the_local_id_counts():
    assert given(lambda users, orders: orders, ["orders.us", "users.us"]) == "ORDERS.US"
    assert given(lambda inputs: inputs["orders"], ["orders.us", "users.us"]) == "ORDERS.US"


def test_branches_that_meet_are_told_apart_by_their_whole_ids():
    assert given(lambda orders_us, orders_eu: orders_eu, ["orders.us", "orders.eu"]) == "ORDERS.EU"
    with pytest.raises(DefinitionError, match="'orders'"):
        given(lambda orders: orders, ["orders.us", "orders.eu"])


@pytest.mark.parametrize(
    "function",
    [
        lambda df: df,
        lambda df, /: df,
        lambda df, factor: df,
        lambda context, df: df,
        lambda params, df, factor: df,
        lambda *frames: frames[0],
        lambda *frames, **rest: frames[0],
        lambda *, df: df,
        lambda df=None: df,
        lambda factor: factor,
        functools.partial(lambda a, b: b, "bound"),
    ],
)
def test_a_single_input_goes_first_whatever_its_name(function):
    assert given(function, params={"factor": 2}) == "ORDERS"


def test_a_param_after_a_reserved_name_stays_a_param():
    assert given(lambda context, factor: factor, params={"factor": 2}) == 2
    assert given(lambda context, limit=10: limit) == 10
    assert given(lambda inputs, factor: factor, params={"factor": 2}) == 2


def test_an_annotated_frame_is_a_frame_wherever_it_stands():
    def f(context, factor: pl.DataFrame):
        return factor

    assert given(f, params={"factor": 2}) == "ORDERS"


def test_an_input_wins_over_a_param_of_its_name():
    assert given(lambda users, orders: users, ["orders", "users"], {"users": 3}) == "USERS"


def test_the_rest_of_the_params_goes_to_the_double_star():
    def f(df, a, b=5, **rest):
        return df, a, b, rest

    assert given(f, params={"a": 1, "c": 3}) == ("ORDERS", 1, 5, {"c": 3})


def test_a_positional_only_default_is_kept_when_one_after_it_is_given():
    def f(df, a=1, b=2, /):
        return df, a, b

    assert given(f, params={"b": 7}) == ("ORDERS", 1, 7)


def test_a_function_without_inputs_gets_none():
    assert given(lambda context, n=3: (context, n), []) == ("CONTEXT", 3)
    assert given(lambda inputs: inputs, []) == {}


def test_objects_that_can_be_called_and_methods_work():
    class Job:
        def __call__(self, orders, factor):
            return orders, factor

        def run(self, orders):
            return orders

    assert given(Job(), params={"factor": 2}) == ("ORDERS", 2)
    assert given(Job().run) == "ORDERS"


def test_a_wrapper_shows_what_it_wraps():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    assert given(logged(lambda users, orders: users), ["orders", "users"]) == "USERS"


def test_the_annotation_of_inputs_chooses_the_kind_of_all():
    def f(inputs: dict[str, pl.LazyFrame], orders: "pl.DataFrame"):
        """Take both."""

    call = match_arguments(f, {"orders": 1, "users": 2}, {}, None)
    assert [(wanted.input_id, wanted.kind) for wanted in call.wanted] == [
        ("orders", FrameKind.POLARS_LAZY),
        ("users", FrameKind.POLARS_LAZY),
        ("orders", FrameKind.POLARS),
    ]


def test_without_an_annotation_the_engine_chooses():
    (wanted,) = match_arguments(lambda orders: orders, {"orders": 1}, {}, None).wanted
    assert wanted.kind is None


def test_inputs_behave_as_a_dict():
    inputs = Inputs({"a-b.us": 1, "c": 2})
    assert (inputs["a_b"], inputs["a-b"], inputs.get("a_b_us"), inputs.get("d"), inputs.get("d", 5)) == (
        1,
        1,
        1,
        None,
        5,
    )
    assert "a-b" in inputs
    assert "d" not in inputs
    assert list(inputs) == ["a-b.us", "c"]
    with pytest.raises(KeyError, match="no input 'cc'; did you mean 'c'"):
        inputs["cc"]


def test_an_argument_that_nothing_answers_to_is_named_with_what_there_is():
    def enrich(orders, user):
        """Ask for what is not there."""

    with pytest.raises(DefinitionError) as caught:
        match_arguments(enrich, {"orders": 1, "users": 2}, {"factor": 1}, None, name="etl.enrich:main")
    error = caught.value
    assert error.code == "wrong-signature"
    assert "'etl.enrich:main' asks for 'user'" in error.message
    assert error.hint == "did you mean 'users'?"
    assert error.notes == ("inputs: orders, users", "params: factor", "always there: inputs, params, context")
    assert error.where is not None
    assert str(error.where.path).endswith("test_frames_matching.py")
    assert error.where.line == enrich.__code__.co_firstlineno


def test_spark_is_given_by_spark_alone():
    with pytest.raises(DefinitionError) as caught:
        given(lambda spark, orders: orders)
    assert caught.value.hint == "only engine=\"spark\" gives 'spark'"


FORMS = """
    def plain(a, b=1, /, c=2, *rest, d, e=3, **more): ...
    async def later(orders): ...
    class Job:
        @staticmethod
        def run(orders, nothing): ...
    @transform(engine="python")
    def marked(orders, nothing): ...
    @aiflow_sdk.transform
    def marked_too(orders, nothing): ...
    @cached
    def wrapped(whatever, nothing): ...
    assigned = plain
    def twice(nothing): ...
    def twice(orders): ...
"""


def written(tmp_path, name):
    (tmp_path / "etl.py").write_text("\ufeff" + textwrap.dedent(FORMS).replace("\n", "\r\n"), newline="")
    return CodeIndex(tmp_path).function_source(f"etl:{name}").definition


def test_arguments_are_read_from_text_as_from_the_function(tmp_path):
    def plain(a, b=1, /, c=2, *rest, d, e=3, **more):
        """Stand for the text."""

    def wants(function):
        return [problem.message.partition("asks for")[2] for problem in check_signature(function, ["x", "y"], [])]

    assert wants(written(tmp_path, "plain")) == wants(plain) != []


@pytest.mark.parametrize("name", ["Job.run", "marked", "marked_too"])
def test_text_is_checked_without_importing(tmp_path, name):
    (problem,) = check_signature(written(tmp_path, name), ["orders", "users"], ["factor"])
    assert "'nothing'" in problem.message


@pytest.mark.parametrize("name", ["wrapped", "assigned", "Job", "Job.absent"])
def test_what_only_running_could_tell_is_not_judged(tmp_path, name):
    assert written(tmp_path, name) is None


def test_the_last_definition_counts(tmp_path):
    assert check_signature(written(tmp_path, "twice"), ["orders"], []) == []


def test_a_syntax_tree_can_be_checked():
    (node,) = ast.parse("def f(orders, spark, x): ...").body
    assert isinstance(node, ast.FunctionDef)
    assert [p.code for p in check_signature(node, ["orders", "users"], [], ["spark"])] == ["wrong-signature"]
