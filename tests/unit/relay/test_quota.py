import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import AllocationQuotaReached
from relay.quota import UserQuota


def test_the_limit_is_per_user() -> None:
    quota = UserQuota()
    for _ in range(2):
        quota.reserve("alice", 2)
    with pytest.raises(AllocationQuotaReached):
        quota.reserve("alice", 2)
    quota.reserve("bob", 2)
    assert (quota.held("alice"), quota.held("bob"), quota.held("carol")) == (2, 1, 0)


def test_a_released_place_can_be_taken_again() -> None:
    quota = UserQuota()
    quota.reserve("alice", 1)
    quota.release("alice")
    quota.reserve("alice", 1)
    assert quota.held("alice") == 1


def test_releasing_what_is_not_counted_is_a_bug() -> None:
    with pytest.raises(KeyError):
        UserQuota().release("alice")


def test_several_are_counted_and_released_at_once_or_not_at_all() -> None:
    quota = UserQuota()
    with pytest.raises(AllocationQuotaReached):
        quota.reserve("alice", 1, 2)
    assert quota.held("alice") == 0
    quota.reserve("alice", 2, 2)
    with pytest.raises(KeyError):
        quota.release("alice", 3)
    quota.release("alice", 2)
    assert len(quota) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())), st.integers(1, 4))
def test_only_users_with_allocations_are_remembered(steps: list[tuple[str, bool]], limit: int) -> None:
    quota = UserQuota()
    held = dict.fromkeys("abc", 0)
    for name, reserves in steps:
        if reserves and held[name] < limit:
            quota.reserve(name, limit)
            held[name] += 1
        elif not reserves and held[name]:
            quota.release(name)
            held[name] -= 1
    assert {name: quota.held(name) for name in held} == held
    assert len(quota) == sum(count > 0 for count in held.values())
