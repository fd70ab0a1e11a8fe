from sfu.conference_layers import NOMINAL, NOMINAL_ALONE, UNWANTED_SECONDS, UnwantedLayers, layers_of

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


def test_what_nobody_looks_at_is_unwanted_after_a_while_and_wanted_at_once() -> None:
    layers = UnwantedLayers(RIDS)
    assert layers.update(0, 10.0) is None
    assert layers.update(0, 10.0 + UNWANTED_SECONDS / 2) is None
    assert layers.update(0, 10.0 + UNWANTED_SECONDS) == ("h", "f")
    assert layers.update(0, 11.0 + UNWANTED_SECONDS) is None
    assert layers.update(1, 11.0 + UNWANTED_SECONDS) == ("f",)
    assert layers.update(2, 11.0 + UNWANTED_SECONDS) == ()


def test_who_looks_away_for_a_moment_makes_nobody_stop() -> None:
    layers = UnwantedLayers(RIDS)
    assert layers.update(None, 0.0) is None
    assert layers.update(2, UNWANTED_SECONDS / 2) is None
    assert layers.update(None, UNWANTED_SECONDS) is None


def test_a_camera_that_nobody_looks_at_need_not_send_at_all() -> None:
    layers = UnwantedLayers(RIDS)
    layers.update(None, 0.0)
    assert layers.update(None, UNWANTED_SECONDS) == RIDS
