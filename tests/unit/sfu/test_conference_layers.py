from sfu.conference_layers import NOMINAL, NOMINAL_ALONE, layers_of, unwanted_rids

RIDS = ("q", "h", "f")


def test_each_smaller_layer_has_half_the_size() -> None:
    assert [(layer.width, layer.height) for layer in layers_of(RIDS, (), None)] == [(320, 180), (640, 360), (1280, 720)]
    assert [layer.width for layer in layers_of((), (), None)] == [1280]


def test_before_anything_has_come_the_smallest_layer_is_on_its_way() -> None:
    assert [layer.bitrates for layer in layers_of(RIDS, ((), (), ()), None)] == [(NOMINAL["q"],), (), ()]
    assert layers_of((), ((),), None)[0].bitrates == (NOMINAL_ALONE,)


def test_a_layer_that_came_costs_what_it_should_until_it_is_measured() -> None:
    layers = layers_of(RIDS, ((90e3, 120e3), (), ()), {0, 1})
    assert [layer.bitrates for layer in layers] == [(90e3, 120e3), (NOMINAL["h"],), ()]


def test_a_layer_that_has_stopped_is_not_chosen_for_its_price() -> None:
    layers = layers_of(RIDS, ((100e3,), (400e3,), (30e3,)), {0, 1, 2})
    assert [layer.bitrates for layer in layers] == [(100e3,), (400e3,), ()]


def test_what_lies_above_the_largest_layer_in_use_need_not_be_sent() -> None:
    assert unwanted_rids(RIDS, 2) == ()
    assert unwanted_rids(RIDS, 0) == ("h", "f")
    assert unwanted_rids(RIDS, None) == RIDS
