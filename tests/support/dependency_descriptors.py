"""Writes Dependency Descriptors bit by bit, for tests: nothing in the service needs to."""

from sfu.dependency_descriptor import MAX_TEMPLATES, DependencyDescriptor, Structure, Template


class _Bits:
    def __init__(self) -> None:
        self._bits = ""

    def write(self, value: int, width: int) -> None:
        assert 0 <= value < 1 << width
        self._bits += f"{value:0{width}b}" if width else ""

    def write_below(self, value: int, bound: int) -> None:
        """ns(n) of AV1 §4.10.7."""
        width = bound.bit_length()
        short = (1 << width) - bound
        if value < short:
            self.write(value, width - 1)
        else:
            self.write(value + short, width)

    def to_bytes(self) -> bytes:
        padded = self._bits + "0" * (-len(self._bits) % 8)
        return bytes(int(padded[at : at + 8], 2) for at in range(0, len(padded), 8))


def encode_descriptor(descriptor: DependencyDescriptor, structure: Structure | None) -> bytes:
    """Write the value of an extension, in extended form only where it is needed."""
    bits = _Bits()
    bits.write(descriptor.starts_frame, 1)
    bits.write(descriptor.ends_frame, 1)
    bits.write(descriptor.template_id, 6)
    bits.write(descriptor.frame_number, 16)
    attached = descriptor.attached
    structure = attached or structure
    assert structure is not None
    index = descriptor.template_id - structure.template_id_offset & MAX_TEMPLATES - 1
    template, frame = structure.templates[index], descriptor.frame
    assert frame is not None
    all_targets = (1 << structure.decode_targets) - 1
    active = descriptor.active_decode_targets
    has_active = active is not None and (attached is None or active != all_targets)
    flags = (
        attached is not None,
        has_active,
        frame.indications != template.indications,
        frame.frame_diffs != template.frame_diffs,
        frame.chain_diffs != template.chain_diffs,
    )
    if not any(flags):
        return bits.to_bytes()
    for flag in flags:
        bits.write(flag, 1)
    if attached is not None:
        _write_structure(bits, attached)
    if has_active:
        bits.write(active or 0, structure.decode_targets)
    _write_custom(bits, flags, frame)
    return bits.to_bytes()


def _write_custom(bits: _Bits, flags: tuple[bool, ...], frame: Template) -> None:
    if flags[2]:
        for indication in frame.indications:
            bits.write(indication, 2)
    if flags[3]:
        for diff in frame.frame_diffs:
            size = max(1, -(-(diff - 1).bit_length() // 4))
            bits.write(size, 2)
            bits.write(diff - 1, 4 * size)
        bits.write(0, 2)
    if flags[4]:
        for diff in frame.chain_diffs:
            bits.write(diff, 8)


def _write_structure(bits: _Bits, structure: Structure) -> None:
    bits.write(structure.template_id_offset, 6)
    bits.write(structure.decode_targets - 1, 5)
    templates = structure.templates
    for template, following in zip(templates, [*templates[1:], None], strict=True):
        if following is None:
            step = 3
        elif following.spatial_id != template.spatial_id:
            step = 2
        else:
            step = following.temporal_id - template.temporal_id
        bits.write(step, 2)
    for template in templates:
        for indication in template.indications:
            bits.write(indication, 2)
    for template in templates:
        for diff in template.frame_diffs:
            bits.write(1, 1)
            bits.write(diff - 1, 4)
        bits.write(0, 1)
    chains = len(templates[0].chain_diffs)
    bits.write_below(chains, structure.decode_targets + 1)
    for chain in structure.protected_by:
        bits.write_below(chain, chains)
    for template in templates:
        for diff in template.chain_diffs:
            bits.write(diff, 4)
    bits.write(bool(structure.resolutions), 1)
    for width, height in structure.resolutions:
        bits.write(width - 1, 16)
        bits.write(height - 1, 16)
