from sfu.conference_messages import Refusal, Side, Source, State


def test_the_words_are_those_of_the_protocol() -> None:
    assert [source.value for source in Source] == ["microphone", "camera", "screen"]
    assert [side.value for side in Side] == ["publish", "subscribe"]
    assert [state.value for state in State] == ["connected", "failed"]
    assert [reason.value for reason in Refusal] == ["sdp", "full"]
