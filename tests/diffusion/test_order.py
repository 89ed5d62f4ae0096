"""The wavefront order as laws of whole numbers."""

import itertools

import pytest

from stableavatar_jax.diffusion import order
from stableavatar_jax.diffusion.windows import WindowPlan


@pytest.mark.parametrize("overlap", [0, 2, 5, 10, 11, 15, 20])
@pytest.mark.parametrize("videos", [[1], [2], [7], [1, 3, 1, 1, 2]])
def test_every_pair_once_and_its_inputs_before_it(overlap, videos):
    """A pair (window, step) comes after all that made its frames, and after the tail that it is fused with."""
    window, steps = 21, 3
    reach, stride = order.reach(window, overlap), window - overlap
    line, when, noise, finished = order.Line(reach, steps), {}, {}, []
    for moment, arrival in enumerate(order.arrivals(map(range, videos), reach, steps)):
        if arrival.noise:
            assert arrival.noise not in noise
            noise[arrival.noise] = moment
        line.move(arrival.place)
        for step, place in line.rows():
            pair = (place.video, place.number, step)
            assert pair not in when and place.live == (place.number < videos[place.video])
            when[pair] = moment
        if line.finished:
            finished.append(line.finished[:2])
    strides = [-(-WindowPlan(window + (count - 1) * stride, window, overlap).padded // stride) for count in videos]
    assert strides == [count + reach - 1 for count in videos]
    every = [(video, number) for video, count in enumerate(strides) for number in range(count)]
    assert set(when) == {(*place, step) for place in every for step in range(steps)}
    assert finished == every and set(noise) == set(every)
    for (video, number, step), moment in when.items():
        if number < videos[video]:
            read = [(video, n) for n in range(number, number + reach)]
            assert all(when[*place, step - 1] < moment if step else noise[place] <= moment for place in read)
        if number:
            assert when[video, number - 1, step] < moment


@pytest.mark.parametrize("overlap", [0, 2, 10, 11, 20])
@pytest.mark.parametrize("steps", [1, 10, 30, 50])
def test_the_first_stride_is_final_after_a_fixed_number_of_evaluations(overlap, steps):
    """After K S (S-1) / 2 + S window evaluations, whatever follows."""
    reach = order.reach(21, overlap)
    assert order.work([reach * steps + 5], reach, steps, 1).before_first == reach * steps * (steps - 1) // 2 + steps


@pytest.mark.parametrize("steps", [4, 10, 30, 50])
def test_ten_minutes_waste_at_most_a_tenth(steps):
    windows = WindowPlan(3751, 21, 10).count
    rows = order.widest([windows], 2, steps, steps)
    chosen, wider = (order.work([windows], 2, steps, r) for r in (rows, rows + 1))
    assert rows > 1 and chosen.waste <= order.MOST_WASTE and chosen.needed == windows * steps
    assert rows == steps or wider.waste > order.MOST_WASTE


@pytest.mark.parametrize("steps", [16, 50])
def test_short_videos_fill_the_rows_together(steps):
    """One behind the other 190 of them need no more than a tenth besides; each alone would need many times more."""
    videos = list(itertools.islice(itertools.cycle([1, 2, 3, 1]), 190))
    rows = order.widest(videos, 2, steps, steps)
    assert rows > 1 and order.work(videos, 2, steps, rows).waste <= order.MOST_WASTE
    assert order.work([1], 2, steps, rows).waste == rows


def test_windows_are_asked_for_when_they_begin():
    """Sound that is still to come: what a window needs is taken no sooner than its own diagonal."""
    taken = []
    windows = (taken.append(n) for n in range(5))
    for moment, arrival in enumerate(order.arrivals([windows], 2, 3)):
        if moment and moment <= 5:
            assert arrival.place == (0, moment - 1, True) and len(taken) == moment
