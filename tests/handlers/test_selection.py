"""The selection handler: what it returns holds, what it calls impossible is, and a retry draws the
same panel."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.errors import Fail, Retry
from functions.handlers import selection
from functions.handlers.selection import Draft, Person, impossible
from functions.ops.local import samples
from tests.handlers.fake_context import FakeContext

QUOTAS = {"gender": {"f": [1, 2], "m": [1, 2]}}
CSV = "id,gender\n1,f\n2,f\n3,m\n4,m\n"
TASK = {"csv": CSV, "size": 3, "quotas": QUOTAS, "seed": 1}


def verdict(task_input, context=None):
    with pytest.raises((Retry, Fail)) as caught:
        selection.handle(context or FakeContext(), task_input)
    return caught.value


def row_of(person):
    return [person.id, *(value for _, value in person.cells)]


def text_of(people):
    header = ["id", *(category for category, _ in people[0].cells)] if people else ["id"]
    rows = [header, *map(row_of, people)]
    return "\n".join(",".join(row) for row in rows)


def nested(quotas):
    by_category: dict = {}
    for (category, value), bounds in quotas.items():
        by_category.setdefault(category, {})[value] = list(bounds)
    return by_category


def fits(panel, quotas):
    counts = Counter(cell for person in panel for cell in person.cells)
    return all(least <= counts[cell] <= most for cell, (least, most) in quotas.items())


def random_cells(rng):
    return tuple((f"c{c}", str(rng.randrange(3))) for c in range(4))


def a_panel_exists(people, quotas, size):
    return any(fits(panel, quotas) for panel in itertools.combinations(people, size))


@st.composite
def small_tasks(draw):
    """Up to 9 people in up to 3 categories: small enough to try every panel there is."""
    value_names = ["v0", "v1", "v2"]
    values = {
        f"c{n}": value_names[: draw(st.integers(1, 3))] for n in range(draw(st.integers(0, 3)))
    }
    cells = st.tuples(
        *(st.tuples(st.just(category), st.sampled_from(some)) for category, some in values.items())
    )
    people = [Person(f"p{n}", draw(cells)) for n in range(draw(st.integers(1, 9)))]
    size = draw(st.integers(1, 6))
    bounds = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted).map(tuple)
    quotas = {
        (category, value): draw(bounds) for category, some in values.items() for value in some
    }
    return people, quotas, size


class TestWhatItReturns:
    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(task=small_tasks(), seed=st.integers())
    def test_all_quotas_hold_the_size_is_right_and_nobody_sits_twice(self, task, seed, monkeypatch):
        monkeypatch.setattr(selection, "TRIES", 3)
        people, quotas, size = task
        try:
            result = selection.handle(
                FakeContext(),
                {"csv": text_of(people), "size": size, "quotas": nested(quotas), "seed": seed},
            )
        except Fail:
            return
        panel = [person for person in people if person.id in result["selected"]]
        assert fits(panel, quotas)
        assert len(set(result["selected"])) == len(result["selected"]) == len(panel) == size
        counts = Counter(cell for person in panel for cell in person.cells)
        assert result["counts"] == nested_counts(quotas, counts)

    @settings(max_examples=300, deadline=None)
    @given(task=small_tasks())
    def test_what_counting_calls_impossible_is_impossible(self, task):
        people, quotas, size = task
        if impossible(people, quotas, size):
            assert not a_panel_exists(people, quotas, size)

    @settings(max_examples=150, deadline=None)
    @given(task=small_tasks().filter(lambda task: len(task[1]) > 0))
    def test_with_one_category_counting_is_the_whole_truth(self, task):
        people, quotas, size = task
        first = next(iter(quotas))[0]
        narrow = {cell: bounds for cell, bounds in quotas.items() if cell[0] == first}
        narrowed = [Person(person.id, person.cells[:1]) for person in people]
        assert bool(impossible(narrowed, narrow, size)) != a_panel_exists(narrowed, narrow, size)

    def test_a_panel_that_exists_is_found_on_every_one_of_200_small_tasks_with_tight_quotas(self):
        rng = random.Random(4)
        for _ in range(200):
            people = [Person(str(n), random_cells(rng)) for n in range(16)]
            counts = Counter(cell for person in rng.sample(people, 8) for cell in person.cells)
            quotas = {
                (f"c{c}", str(v)): (counts[f"c{c}", str(v)],) * 2
                for c in range(4)
                for v in range(3)
            }
            task = {"csv": text_of(people), "size": 8, "quotas": nested(quotas), "seed": 0}
            assert len(selection.handle(FakeContext(), task)["selected"]) == 8

    def test_without_quotas_everybody_can_be_drawn(self):
        drawn = Counter()
        for seed in range(400):
            drawn.update(
                selection.handle(FakeContext(), {**TASK, "size": 1, "quotas": {}, "seed": seed})[
                    "selected"
                ]
            )
        assert sorted(drawn) == ["1", "2", "3", "4"]
        assert min(drawn.values()) > 60  # 100 expected; the seeds are fixed

    def test_a_value_that_nobody_has_counts_as_zero(self):
        quotas = {"gender": {**QUOTAS["gender"], "x": [0, 1]}}
        assert (
            selection.handle(FakeContext(), {**TASK, "quotas": quotas})["counts"]["gender"]["x"]
            == 0
        )

    def test_the_result_is_in_the_order_of_the_list(self):
        selected = selection.handle(FakeContext(), samples.selection_input(seed=3))["selected"]
        assert selected == sorted(selected)


def nested_counts(quotas, counts):
    result: dict = {}
    for category, value in quotas:
        result.setdefault(category, {})[value] = counts[category, value]
    return result


class TestTheDraft:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_swap_mends_one_quota_without_breaking_another(self, seed):
        people = [
            Person(f"{gender}{age}", (("gender", gender), ("age", age)))
            for gender in "fm"
            for age in ("old", "young")
        ]
        quotas = {
            ("gender", "f"): (1, 1),
            ("gender", "m"): (1, 1),
            ("age", "old"): (1, 1),
            ("age", "young"): (1, 1),
        }
        draft = Draft(people, quotas, random.Random(seed))
        draft._take(people[0])
        draft._take(people[1])
        draft._swap(("gender", "m"))
        assert fits(draft.inside, quotas)

    def test_each_try_draws_others(self, monkeypatch):
        drafts = []
        monkeypatch.setattr(selection, "TRIES", 10)
        monkeypatch.setattr(
            Draft, "repair", lambda draft: drafts.append([p.id for p in draft.inside]) or False
        )
        verdict(samples.selection_input(seed=1))
        assert len(drafts) == selection.TRIES
        assert len({tuple(sorted(ids)) for ids in drafts}) == selection.TRIES


class TestTheSample:
    def test_its_quotas_can_be_filled_with_any_of_20_seeds(self):
        for seed in range(20):
            result = selection.handle(FakeContext(), samples.selection_input(seed))
            assert len(result["selected"]) == samples.PANEL_SIZE
            for category, values in samples.quotas().items():
                for value, (least, most) in values.items():
                    assert least <= result["counts"][category][value] <= most

    def test_a_draw_without_quotas_does_not_fit_them(self):
        quotas = selection.read_quotas(samples.quotas())
        people = selection.read_people(samples.people_csv(), quotas)
        rng = random.Random(0)
        assert not any(fits(rng.sample(people, samples.PANEL_SIZE), quotas) for _ in range(300))

    def test_it_is_the_same_each_time_and_as_long_as_asked(self):
        assert samples.people_csv() == samples.people_csv()
        assert samples.people_csv(seed=2) != samples.people_csv()
        assert len(samples.people_csv(n=25).splitlines()) == 26
        assert samples.people_csv().splitlines()[0] == ",".join(samples.COLUMNS)


class TestTheSeed:
    def test_the_same_seed_draws_the_same_panel_and_another_one_another(self):
        first, same, other = (
            selection.handle(FakeContext(), samples.selection_input(seed)) for seed in (5, 5, 6)
        )
        assert first == same
        assert first["selected"] != other["selected"]

    def test_without_a_seed_a_later_attempt_still_draws_the_same_panel(self):
        context = FakeContext()
        first = selection.handle(context, samples.selection_input())
        assert selection.handle(context.next_attempt(), samples.selection_input()) == first
        assert (
            selection.handle(FakeContext(), samples.selection_input())["selected"]
            != first["selected"]
        )

    def test_the_seed_of_the_result_repeats_the_draw(self):
        first = selection.handle(FakeContext(), samples.selection_input())
        assert selection.handle(FakeContext(), samples.selection_input(first["seed"])) == first

    @pytest.mark.parametrize("seed", ["1", 1.5, True, [1]])
    def test_a_seed_that_is_no_whole_number_fails(self, seed):
        assert isinstance(verdict({**TASK, "seed": seed}), Fail)


class TestWhatIsImpossible:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"size": 5}, ["needs 5 people", "has 4"]),
            (
                {"quotas": {"gender": {"f": [3, 3], "m": [0, 3]}}},
                ["gender 'f'", "at least 3", "has 2"],
            ),
            (
                {"quotas": {"gender": {"f": [2, 2], "m": [2, 2]}}},
                ["minimums of gender", "add up to 4", "3 seats"],
            ),
            (
                {"quotas": {"gender": {"f": [0, 1], "m": [0, 1]}}},
                ["gender", "2 seats at most", "of 3"],
            ),
            (
                {"size": 4, "quotas": {"gender": {"f": [0, 1], "m": [0, 9]}}},
                ["gender", "3 seats at most", "of 4"],
            ),
            (
                {"quotas": {"gender": {"f": [0, 0], "m": [0, 3]}}},
                ["needs 3 people", "has 2", "2 people are kept out"],
            ),
        ],
    )
    def test_it_fails_with_the_category_and_the_numbers(self, change, words):
        error = verdict(TASK | change)
        assert isinstance(error, Fail)
        assert [word for word in words if word not in error.message] == []

    def test_quotas_that_only_clash_together_fail_after_all_tries_without_claiming_a_proof(
        self, monkeypatch
    ):
        monkeypatch.setattr(selection, "TRIES", 4)
        text = "id,gender,age\n1,f,old\n2,f,old\n3,m,young\n4,m,young\n"
        quotas = {"gender": {"f": [2, 2], "m": [0, 2]}, "age": {"old": [0, 1], "young": [0, 2]}}
        context = FakeContext()
        error = verdict({"csv": text, "size": 2, "quotas": quotas, "seed": 1}, context)
        assert isinstance(error, Fail)
        assert "in 4 tries" in error.message
        assert "There may be none" in error.message
        assert [fraction for fraction, _ in context.reports] == [0, 0.25, 0.5, 0.75]


class TestTheInput:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (None, "empty"),
            ("", "empty"),
            (" \n", "empty"),
            (7, "empty"),
            (",,\n,\n", "0 columns 'id'"),
            ("name,gender\na,f\n", "0 columns 'id', not 1. It has: name, gender"),
            ("id,name\n1,a\n", "0 columns 'gender'"),
            ("id,gender,gender\n1,f,m\n", "2 columns 'gender'"),
            ("id;gender\n1;f\n", "It has: id;gender"),
            ("id,gender\n1,f\n1,m\n", "'1' is in the lines 2 and 3"),
            ("id,gender\n1,f\n,m\n", "Line 3 of the list has no id"),
            ("id,gender\n1,f\n2\n", "Line 3 of the list has 1 fields; the header has 2"),
            ("id,gender\n1,f,x\n", "Line 2 of the list has 3 fields"),
            ("id,gender\n1,x\n", "Line 2: gender 'x' has no quota"),
            ('id,gender\n1,"f\n', "cannot be read as CSV"),
            ("id,gender\n", "needs 3 people, but the list has 0"),
        ],
    )
    def test_a_bad_list_fails_in_words_that_name_the_place(self, text, words):
        error = verdict({**TASK, "csv": text})
        assert isinstance(error, Fail)
        assert words in error.message

    @pytest.mark.parametrize(
        "text", ["\ufeff" + CSV, CSV.replace("\n", "\r\n"), CSV.replace(",", " , "), CSV + "\n\n"]
    )
    def test_what_spreadsheets_write_is_read(self, text):
        assert selection.handle(FakeContext(), {**TASK, "csv": text}) == selection.handle(
            FakeContext(), TASK
        )

    def test_fields_with_commas_and_line_ends_are_read(self):
        text = 'id,gender,name\n1,f,"Ada, Countess"\n2,f,"a\nb"\n3,m,c\n4,m,d\n'
        assert len(selection.handle(FakeContext(), {**TASK, "csv": text})["selected"]) == 3

    @pytest.mark.parametrize("size", [None, 0, -1, "3", 2.5, True])
    def test_a_bad_size_fails(self, size):
        assert "size of the panel" in verdict({**TASK, "size": size}).message

    @pytest.mark.parametrize(
        "quotas", [None, [], "f", {"gender": None}, {"gender": {}}, {"gender": [1, 2]}]
    )
    def test_missing_quotas_fail(self, quotas):
        assert "quotas are missing" in verdict({**TASK, "quotas": quotas}).message

    @pytest.mark.parametrize(
        "bounds", [None, 1, [1], [1, 2, 3], [2, 1], [-1, 2], ["1", "2"], [True, True], [0.5, 1]]
    )
    def test_a_bad_quota_fails_and_is_named(self, bounds):
        error = verdict({**TASK, "quotas": {"gender": {"f": bounds, "m": [0, 3]}}})
        assert isinstance(error, Fail)
        assert "gender 'f'" in error.message


class TestTheTime:
    @pytest.fixture(autouse=True)
    def stuck(self, monkeypatch):
        """No try finds a panel."""
        monkeypatch.setattr(Draft, "repair", lambda _self: False)

    def test_when_it_is_used_up_the_next_attempt_goes_on_where_this_one_stopped(self):
        context = FakeContext(left=11.5, step=1)
        assert isinstance(verdict(TASK, context), Retry)
        assert context.done("tries") == {"tries": 10}
        later = context.next_attempt()
        assert isinstance(verdict(TASK, later), Fail)
        assert len(context.reports) + len(later.reports) == selection.TRIES
        assert later.reports[0] == (0.1, "try 11 of 100 at most")

    def test_a_cancelled_draw_stops_and_is_retried_at_once(self):
        context = FakeContext()
        context.stopped = True
        error = verdict(TASK, context)
        assert isinstance(error, Retry)
        assert error.after == 0
        assert context.reports == []

    def test_an_interruption_does_not_change_the_panel(self, monkeypatch):
        monkeypatch.undo()
        repairs, repair = [], Draft.repair
        monkeypatch.setattr(
            Draft, "repair", lambda draft: repairs.append(1) or (len(repairs) > 4 and repair(draft))
        )
        whole = selection.handle(FakeContext(), samples.selection_input(seed=9))
        repairs.clear()
        context = FakeContext(left=3.5, step=1)
        verdict(samples.selection_input(seed=9), context)
        assert selection.handle(context.next_attempt(), samples.selection_input(seed=9)) == whole
        assert whole["tries"] == 5
