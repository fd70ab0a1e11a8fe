"""A whole conference: three, five and eight pages, the real server with its media server, and sealed media."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.conference import DOCTOR, LENA, PETRA, UWE, Meeting, meeting, run_conference_service
from tests.support.service import Service

pytestmark = [pytest.mark.long, pytest.mark.timeout(520)]

CROWD = [DOCTOR, PETRA, UWE, LENA, "Ömer Yildiz", "Karl Beleg", "Ida Muster", "Jo Ähnlich"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service, which does not measure paths: two cores are too slow for that."""
    with run_conference_service(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="module")
def service_as_it_is(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_conference_service(tmp_path_factory.mktemp("as-it-is"), tap=None) as started:
        yield started


@pytest.mark.parametrize("count", [3, 5, 8])
def test_everybody_gets_every_stream_under_its_name_and_the_two_of_each_pair_read_one_code(
    browser: Browser, service: Service, count: int
) -> None:
    assert_everybody_gets_every_stream(browser, service, count)


def test_everybody_gets_every_stream_of_the_compiled_server_which_measures_paths(
    browser: Browser, service_as_it_is: Service
) -> None:
    assert_everybody_gets_every_stream(browser, service_as_it_is, 5)


def assert_everybody_gets_every_stream(browser: Browser, service: Service, count: int) -> None:
    """So many people see and hear each other, and the codes of each pair agree."""
    with meeting(browser, service, count - 1) as conference:
        conference.enter(*CROWD[:count])
        conference.await_everybody()
        for person in conference.people:
            for other in conference.others_than(person):
                assert person.tile_of(other).get_attribute("aria-label") == other.name
        assert_codes_agree(conference)


def assert_codes_agree(conference: Meeting) -> None:
    """Each pair has digits of its own, and both read the same."""
    for person in conference.people:
        person.await_codes(len(conference.people) - 1)
    codes = {person.name: person.people() for person in conference.people}
    pairs = {frozenset((one, other)): code for one, read in codes.items() for other, code in read.items()}
    assert len(pairs) == len(codes) * (len(codes) - 1) / 2
    assert len(set(pairs.values())) == len(pairs)
    for one, read in codes.items():
        assert read == {other: codes[other][one] for other in codes if other != one}
