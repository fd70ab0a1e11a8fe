import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.dependency_descriptor import (
    MAX_DECODE_TARGETS,
    MAX_TEMPLATES,
    DependencyDescriptor,
    DependencyReader,
    Structure,
    Template,
    decode_descriptor,
    with_frame_number,
)
from sfu.errors import ParseFault, RtpParseError
from tests.support.dependency_descriptors import encode_descriptor

# What Chromium 156 sends with VP8 in two temporal layers (L1T2) of 320 by 180 pixels, byte by byte.
FROM_CHROMIUM = [
    ("c00001800104eaac851450460404fc02cc", 1, 0, (2, 2), ()),
    ("c30002", 2, 1, (0, 2), (1,)),
    ("c20003", 3, 0, (2, 3), (2,)),
    ("c40004", 4, 1, (0, 1), (2, 1)),
    ("c10005", 5, 0, (2, 2), (2,)),
    ("c30006", 6, 1, (0, 2), (1,)),
    ("c20007", 7, 0, (2, 3), (2,)),
    ("c000081200", 8, 0, (2, 2), (1,)),
]


def test_what_chromium_sends_reads_as_two_temporal_layers() -> None:
    reader = DependencyReader()
    for raw, number, temporal_id, indications, frame_diffs in FROM_CHROMIUM:
        descriptor = reader.read(bytes.fromhex(raw))
        assert descriptor.starts_frame and descriptor.ends_frame
        assert descriptor.frame_number == number
        assert descriptor.begins_key_frame is (number == 1)
        assert descriptor.frame == Template(0, temporal_id, indications, frame_diffs)
    assert reader.structure is not None
    assert reader.structure.resolutions == ((320, 180),)
    assert reader.structure.decode_targets == 2
    assert (reader.structure.max_temporal_id, reader.structure.max_spatial_id) == (1, 0)
    assert reader.active_decode_targets == 0b11


def _packed(bits: str) -> bytes:
    digits = "".join(filter("01".__contains__, bits))
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8)


def test_a_structure_with_chains_reads_as_it_was_written_by_hand() -> None:
    raw = _packed(
        "1 0 000101 0000000000101010"  # start, no end, template 5, frame 42
        "1 1 0 0 0"  # a structure, active decode targets, nothing custom
        "000101 00001"  # offset 5, two decode targets
        "10 11"  # next layer idc: to S1; no more
        "10 10 00 10"  # indications of the templates: switch and switch, absent and switch
        "0"  # the first one needs no frame
        "1 0000 0"  # the second one needs that before
        "11"  # chains: ns(3) of 2
        "0 1"  # protected by: ns(2) of 0 and 1
        "0000 0000 0001 0001"  # chain diffs
        "0"  # no resolutions
        "01"  # active: only decode target 0
    )
    base = Template(0, 0, (2, 2), (), (0, 0))
    structure = Structure(5, 2, (base, Template(1, 0, (0, 2), (1,), (1, 1))), (0, 1))
    assert decode_descriptor(raw, None) == DependencyDescriptor(
        starts_frame=True,
        ends_frame=False,
        template_id=5,
        frame_number=42,
        attached=structure,
        active_decode_targets=1,
        frame=base,
    )


def test_identifiers_of_templates_go_round() -> None:
    templates = (Template(0, 0, (2,), ()), Template(0, 1, (1,), (1,)))
    structure = Structure(63, 1, templates)
    assert decode_descriptor(bytes.fromhex("c00001"), structure).frame == templates[1]
    assert decode_descriptor(bytes.fromhex("ff0001"), structure).frame == templates[0]
    assert decode_descriptor(bytes.fromhex("c10001"), structure).frame is None


def test_without_a_structure_only_the_frame_is_known() -> None:
    mandatory = DependencyDescriptor(starts_frame=False, ends_frame=True, template_id=3, frame_number=0xAA)
    assert decode_descriptor(bytes.fromhex("4300aa"), None) == mandatory
    assert decode_descriptor(bytes.fromhex("4300aa40"), None) == mandatory


def test_what_is_broken_does_not_replace_the_structure() -> None:
    reader = DependencyReader()
    reader.read(bytes.fromhex(FROM_CHROMIUM[0][0]))
    before = reader.structure
    with pytest.raises(RtpParseError):
        reader.read(bytes.fromhex(FROM_CHROMIUM[0][0])[:9])
    assert reader.structure is before is not None


@pytest.mark.parametrize("size", [0, 1, 2, 256])
def test_a_value_of_an_impossible_length_is_refused(size: int) -> None:
    with pytest.raises(RtpParseError) as refused:
        decode_descriptor(bytes(size), None)
    assert refused.value.fault is ParseFault.BAD_LENGTH


@pytest.mark.parametrize("size", range(4, 17))
def test_a_structure_that_is_cut_is_refused(size: int) -> None:
    with pytest.raises(RtpParseError) as refused:
        decode_descriptor(bytes.fromhex(FROM_CHROMIUM[0][0])[:size], None)
    assert refused.value.fault is ParseFault.TRUNCATED


@pytest.mark.parametrize(
    "layers",
    [
        "00" * MAX_TEMPLATES + "11",
        "01" * 8 + "11",
        "10" * 4 + "11",
    ],
)
def test_more_templates_or_layers_than_there_may_be_are_refused(layers: str) -> None:
    raw = _packed("11000000" + "0" * 16 + "10000" + "000000" + "00000" + layers) + bytes(60)
    with pytest.raises(RtpParseError) as refused:
        decode_descriptor(raw, None)
    assert refused.value.fault is ParseFault.TOO_MANY


def test_another_frame_number_changes_nothing_else() -> None:
    raw = bytes.fromhex(FROM_CHROMIUM[0][0])
    assert decode_descriptor(with_frame_number(raw, 0x1ABCD), None) == decode_descriptor(raw, None)._replace(
        frame_number=0xABCD
    )


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    targets = draw(st.integers(1, 4) | st.just(MAX_DECODE_TARGETS))
    chains = draw(st.integers(0, min(targets, 3)))
    layers = [(0, 0)]
    for step in draw(st.lists(st.integers(0, 2), max_size=6 if targets > 4 else 12)):
        spatial_id, temporal_id = layers[-1]
        layer = [(spatial_id, temporal_id), (spatial_id, temporal_id + 1), (spatial_id + 1, 0)][step]
        if layer[0] < 4 and layer[1] < 8:
            layers.append(layer)
    templates = tuple(
        Template(
            *layer,
            tuple(draw(st.lists(st.integers(0, 3), min_size=targets, max_size=targets))),
            tuple(draw(st.lists(st.integers(1, 16), max_size=3))),
            tuple(draw(st.lists(st.integers(0, 15), min_size=chains, max_size=chains))),
        )
        for layer in layers
    )
    protected_by: tuple[int, ...] = ()
    if chains:
        protected_by = tuple(draw(st.lists(st.integers(0, chains - 1), min_size=targets, max_size=targets)))
    spatial = layers[-1][0] + 1
    sizes = st.tuples(st.integers(1, 65536), st.integers(1, 65536))
    resolutions = tuple(draw(st.just([]) | st.lists(sizes, min_size=spatial, max_size=spatial)))
    return Structure(draw(st.integers(0, 63)), targets, templates, protected_by, resolutions)


@st.composite
def descriptors(draw: st.DrawFn) -> tuple[DependencyDescriptor, Structure]:
    structure = draw(structures())
    index = draw(st.integers(0, len(structure.templates) - 1))
    template = structure.templates[index]
    everyone = (1 << structure.decode_targets) - 1
    attached = draw(st.booleans())
    active = draw(st.integers(0, everyone)) if draw(st.booleans()) else everyone if attached else None
    frame = draw(
        st.just(template)
        | st.builds(
            Template,
            st.just(template.spatial_id),
            st.just(template.temporal_id),
            st.tuples(*[st.integers(0, 3)] * structure.decode_targets),
            st.lists(st.integers(1, 4096), max_size=3).map(tuple),
            st.tuples(*[st.integers(0, 255)] * len(template.chain_diffs)),
        )
    )
    descriptor = DependencyDescriptor(
        draw(st.booleans()),
        draw(st.booleans()),
        structure.template_id_offset + index & 63,
        draw(st.integers(0, 0xFFFF)),
        structure if attached else None,
        active,
        frame,
    )
    return descriptor, structure


@given(descriptors())
def test_what_is_built_parses_to_the_same(pair: tuple[DependencyDescriptor, Structure]) -> None:
    descriptor, structure = pair
    raw = encode_descriptor(descriptor, structure)
    if len(raw) <= 255:
        known = None if descriptor.attached else structure
        assert decode_descriptor(raw, known) == descriptor


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"\xc0\0\1\x80" + rest), structures())
def test_the_parser_raises_nothing_but_its_own_error(raw: bytes, structure: Structure) -> None:
    for known in (None, structure):
        with contextlib.suppress(RtpParseError):
            attached = decode_descriptor(raw, known).attached
            assert attached is None or len(attached.templates) <= MAX_TEMPLATES
