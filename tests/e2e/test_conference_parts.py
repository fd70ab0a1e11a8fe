"""Parts of a conference page that see neither page nor clock: where tiles stand, how good lines are, sound alone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Run = Callable[[str], Any]

# `line(n)` is what a browser says at second n of two people: `a` sends all along, of `b` it is told what comes.
BENCH = """async () => {
  const { arrange, pictureSize } = await import("/js/conference/tile_layout.js");
  const { LineWatch } = await import("/js/conference/line_watch.js");
  const { SoundAlone } = await import("/js/conference/sound_alone.js");
  const { EndingNotice } = await import("/js/conference/ending_notice.js");
  const { addWords } = await import("/js/texts.js");
  await addWords((language) => import(`/js/conference/words_${language}.js`));
  const owners = new Map([["0", "microphone"], ["1", "camera"]].flatMap(([mid, source]) =>
    [[`a${mid}`, { pid: "a", source }], [`b${mid}`, { pid: "b", source }]]));
  const none = { framesDecoded: 0, packetsLost: 0 };
  const inbound = (mid, counts) => [`I${mid}`, { type: "inbound-rtp", mid, ...none, ...counts }];
  const transport = ["T", { type: "transport", selectedCandidatePairId: "P" }];
  const pair = (rtt) => [transport, ["P", { currentRoundTripTime: rtt }]];
  const line = (second, { loss = 0, frames = second * 5, rtt = 0.02 } = {}) => ({
    publish: new Map(pair(rtt)),
    subscribe: new Map([
      ...pair(0.02),
      inbound("a0", { packetsReceived: 50 * second }),
      inbound("a1", { packetsReceived: 80 * second, framesDecoded: 5 * second }),
      inbound("b0", { packetsReceived: (50 - loss) * second, packetsLost: loss * second }),
      inbound("b1", { packetsReceived: 80 * second, framesDecoded: frames }),
      inbound("c1", { packetsReceived: 1, framesDecoded: 1 }),
    ]),
    owners,
  });
  const watched = (due, told) => {
    const watch = new LineWatch();
    for (let second = 0; second <= 30; second += 2) watch.add(line(second, told(second)), new Set(due), second * 1000);
    return [watch.step, Object.fromEntries(watch.lines)];
  };
  window.bench = { arrange, pictureSize, LineWatch, SoundAlone, EndingNotice, line, watched };
}"""


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Runs the body of a function in the page, with the names of the bench."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    visitor.page.evaluate(BENCH)
    names = "{ arrange, pictureSize, LineWatch, SoundAlone, EndingNotice, line, watched }"
    yield lambda body: visitor.page.evaluate(f"() => {{ const {names} = window.bench; {body} }}")
    visitor.close()


# Where the tiles stand

ROOM_FOR_A_NAME = 150  # CSS pixels; a picture that is narrower leaves its tile the whole place


@pytest.mark.parametrize("ratio", [16 / 9, 4 / 3, 3 / 4])
@pytest.mark.parametrize("size", [(1256, 680), (344, 590), (640, 300), (300, 230)])
def test_the_large_tile_has_the_shape_of_its_picture_and_each_of_the_others_is_on_one_page(
    run: Run, size: tuple[int, int], ratio: float
) -> None:
    width, height = size
    pages = run(f"""
      const at = (page) => arrange({{ count: 20, width: {width}, height: {height}, focus: 3, ratio: {ratio}, page }});
      return Array.from({{ length: at(0).pages }}, (_, page) => at(page).rects);""")
    seen = [index for rects in pages for index, rect in enumerate(rects) if rect is not None and index != 3]
    assert sorted(seen) == [index for index in range(20) if index != 3]
    for rects in pages:
        large = rects[3]
        if large["height"] * ratio < ROOM_FOR_A_NAME:
            assert large["width"] == width
        else:
            assert abs(large["width"] - large["height"] * ratio) <= 2 * ratio, "but for whole pixels"
        shown = [rect for rect in rects if rect is not None]
        assert all(each["left"] >= 0 and each["left"] + each["width"] <= width for each in shown)
        assert all(each["top"] >= 0 and each["top"] + each["height"] <= height for each in shown)
        for at, one in enumerate(shown):
            assert not any(_overlap(one, other) for other in shown[:at])


def _overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    across = a["left"] < b["left"] + b["width"] and b["left"] < a["left"] + a["width"]
    return across and a["top"] < b["top"] + b["height"] and b["top"] < a["top"] + a["height"]


def test_the_others_stand_where_they_leave_more_of_the_large_picture(run: Run) -> None:
    beside, below = run("""
      const first = (width, height) => arrange({ count: 5, width, height, focus: 0, ratio: 16 / 9, page: 0 }).rects;
      return [first(1256, 600), first(344, 590)];""")
    assert beside[1]["left"] >= beside[0]["left"] + beside[0]["width"]
    assert below[1]["top"] >= below[0]["top"] + below[0]["height"]


def test_full_screen_has_the_large_tile_alone(run: Run) -> None:
    found = run("return arrange({ count: 4, width: 1000, height: 500, focus: 2, ratio: 2, alone: true, page: 0 });")
    assert found["rects"] == [None, None, {"left": 0, "top": 0, "width": 1000, "height": 500}, None]
    assert found["pages"] == 1


def test_a_tile_without_a_picture_takes_all_the_room(run: Run) -> None:
    rects = run("return arrange({ count: 1, width: 1000, height: 300, focus: 0, page: 0 }).rects;")
    assert rects == [{"left": 0, "top": 0, "width": 1000, "height": 300}]


@pytest.mark.parametrize(
    ("tile", "ratio", "fit", "size"),
    [
        ((100, 100), 2, "cover", (200, 100)),
        ((100, 100), 2, "contain", (100, 50)),
        ((100, 100), 0.5, "cover", (100, 200)),
        ((300, 100), 2, "cover", (300, 150)),
        ((300, 100), None, "cover", (300, 100)),
        ((0, 0), 2, "contain", (0, 0)),
    ],
)
def test_a_picture_is_as_large_as_it_is_drawn_and_not_as_its_tile(
    run: Run, tile: tuple[int, int], ratio: float | None, fit: str, size: tuple[int, int]
) -> None:
    said = "null" if ratio is None else ratio
    found = run(f'return pictureSize({{ width: {tile[0]}, height: {tile[1]} }}, {said}, "{fit}");')
    assert (found["width"], found["height"]) == size


# How good the lines are


def test_a_line_that_loses_packets_is_told_of_its_person_alone(run: Run) -> None:
    _, lines = run('return watched(["a", "b"], () => ({ loss: 10 }));')
    assert lines["a"] == {"step": "good", "stalled": False}
    assert lines["b"]["step"] != "good"


def test_a_camera_that_is_looked_at_and_stands_still_is_told_within_four_seconds(run: Run) -> None:
    steps = run("""
      const watch = new LineWatch();
      return [0, 2, 4, 6, 8, 10].map((second) => {
        watch.add(line(second, { frames: 5 * Math.min(second, 4) }), new Set(["a", "b"]), second * 1000);
        return watch.lines.get("b").stalled;
      });""")
    assert steps == [False, False, False, False, True, True]


def test_a_camera_that_nobody_looks_at_may_stand_still(run: Run) -> None:
    step, lines = run('return watched(["a"], () => ({ frames: 0 }));')
    assert lines["b"] == {"step": "good", "stalled": False}
    assert step == "good"


def test_the_own_line_is_bad_when_no_picture_comes_of_anybody(run: Run) -> None:
    assert run('return watched(["b"], () => ({ frames: 0 }));')[0] == "bad"
    assert run('return watched(["a", "b"], () => ({ frames: 0 }));')[0] == "good"


def test_the_own_line_is_judged_by_the_longer_of_both_ways(run: Run) -> None:
    assert run("return watched([], () => ({ rtt: 0.9 }));")[0] == "bad"


def test_what_is_of_nobody_counts_for_nobody(run: Run) -> None:
    assert set(run("return watched([], () => ({}));")[1]) == {"a", "b"}


# Sound alone


def test_sound_alone_is_offered_after_eight_bad_seconds_and_not_again_when_it_was_declined(run: Run) -> None:
    seen = run("""
      const offer = new SoundAlone();
      const seen = [];
      offer.measured("bad", 0);
      for (const at of [7_999, 8_000]) { offer.tick(at); seen.push(offer.offered); }
      offer.decline();
      offer.measured("bad", 9_000);
      offer.tick(60_000);
      return [...seen, offer.offered, offer.deadline];""")
    assert seen == [False, True, False, None]


def test_a_line_that_recovers_in_time_is_not_asked_about(run: Run) -> None:
    seen = run("""
      const offer = new SoundAlone();
      offer.measured("bad", 0);
      offer.measured("weak", 4_000);
      offer.tick(20_000);
      return offer.offered;""")
    assert seen is False


def test_who_has_chosen_sound_alone_is_not_asked(run: Run) -> None:
    seen = run("""
      const offer = new SoundAlone();
      offer.use(true);
      offer.measured("bad", 0);
      return [offer.chosen, offer.deadline];""")
    assert seen == [True, None]


# That the server is about to stop


def test_of_an_end_that_is_told_again_nobody_hears_twice_and_of_another_time_everybody(run: Run) -> None:
    heard = run("""
      const { now } = Date;
      Date.now = () => 1_800_000_010_000;
      const said = [];
      const notice = new EndingNotice((words) => said.push(words));
      const heard = [];
      for (const seconds of [600, null, 610, 1_200]) {
        notice.show(seconds);
        heard.push(said.length);
      }
      notice.close();
      Date.now = now;
      return heard;""")
    assert heard == [1, 1, 1, 2]
