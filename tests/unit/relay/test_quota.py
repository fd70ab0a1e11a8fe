import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import AllocationQuotaReached
from relay.quota import UserQuota


def test_the_limit_is_per_user() -> None:
    quota = UserQuota(2)
    for _ in range(2):
        quota.reserve("alice")
    with pytest.raises(AllocationQuotaReached):
        quota.reserve("alice")
    quota.reserve("bob")
    assert (quota.held("alice"), quota.held("bob"), quota.held("carol")) == (2, 1, 0)


def test_a_released_place_can_be_taken_again() -> None:
    quota = UserQuota(1)
    quota.reserve("alice")
    quota.release("alice")
    quota.reserve("alice")
    assert quota.held("alice") == 1


def test_releasing_what_is_not_counted_is_a_bug() -> None:
    with pytest.raises(KeyError):
        UserQuota(1).release("alice")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())), st.integers(1, 4))
def test_only_users_with_allocations_are_remembered(steps: list[tuple[str, bool]], limit: int) -> None:
    quota = UserQuota(limit)
    held = dict.fromkeys("abc", 0)
    for name, reserves in steps:
        if reserves and held[name] < limit:
            quota.reserve(name)
            held[name] += 1
        elif not reserves and held[name]:
            quota.release(name)
            held[name] -= 1
    assert {name: quota.held(name) for name in held} == held
    assert len(quota) == sum(count > 0 for count in held.values())
