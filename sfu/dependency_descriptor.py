"""The Dependency Descriptor (appendix A of the RTP payload format for AV1): frames and layers of an opaque payload.

A sender describes its prediction structure by templates, once, with a key frame; every packet names the template of
its frame. Browsers send it with VP8 and VP9, too. The structure that came last must be kept for each stream.
"""

from typing import Final, NamedTuple

from sfu.errors import ParseFault, RtpParseError

URI: Final = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

MAX_DESCRIPTOR: Final = 255  # bytes: what a header extension holds
MAX_TEMPLATES: Final = 64  # of a structure: their identifiers have six bits
MAX_DECODE_TARGETS: Final = 32
MAX_TEMPORAL_LAYERS: Final = 8
MAX_SPATIAL_LAYERS: Final = 4

_MANDATORY: Final = 3  # bytes


class Template(NamedTuple):
    """What frames of one kind have in common."""

    spatial_id: int
    temporal_id: int
    indications: tuple[int, ...]  # per decode target: 0 not present, 1 discardable, 2 switch, 3 required
    frame_diffs: tuple[int, ...]  # how many frames back the frames lie that it needs
    chain_diffs: tuple[int, ...] = ()  # per chain, how many frames back its last frame lies


class Structure(NamedTuple):
    """How the frames of a stream depend on each other, from a key frame on."""

    template_id_offset: int
    decode_targets: int
    templates: tuple[Template, ...]
    protected_by: tuple[int, ...] = ()  # per decode target, the chain that protects it
    resolutions: tuple[tuple[int, int], ...] = ()  # per spatial layer: width and height in pixels, if told

    @property
    def max_temporal_id(self) -> int:
        """The highest temporal layer that the sender has."""
        return max(template.temporal_id for template in self.templates)

    @property
    def max_spatial_id(self) -> int:
        """The highest spatial layer that the sender has."""
        return self.templates[-1].spatial_id


class DependencyDescriptor(NamedTuple):
    """What the extension of one packet says."""

    starts_frame: bool
    ends_frame: bool
    template_id: int
    frame_number: int  # 16 bits
    attached: Structure | None = None  # a key frame begins here
    active_decode_targets: int | None = None  # a bit for each, the lowest for decode target 0; None: no change
    frame: Template | None = None  # None: of a structure that has not come yet, or of an older one

    @property
    def begins_key_frame(self) -> bool:
        """Whether this packet is the first one of a key frame."""
        return self.attached is not None and self.starts_frame


class _Bits:
    """Reads numbers of any width, and refuses to go beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._left = 8 * len(data)
        self._value = int.from_bytes(data)

    def read(self, width: int) -> int:
        self._left -= width
        if self._left < 0:
            raise RtpParseError(ParseFault.TRUNCATED, "dependency descriptor")
        return self._value >> self._left & (1 << width) - 1

    def read_below(self, bound: int) -> int:
        """A number below `bound`, of the non-symmetric code ns(n) of AV1: the lowest ones take a bit less."""
        width = bound.bit_length()
        short = (1 << width) - bound
        value = self.read(width - 1)
        return value if value < short else (value << 1 | self.read(1)) - short


def decode_descriptor(data: bytes, structure: Structure | None) -> DependencyDescriptor:
    """Read the value of a Dependency Descriptor extension.

    Args:
        data: the value.
        structure: the one that came last with this stream; without it only the mandatory fields can be read, and a
            structure that is attached here.

    Raises:
        RtpParseError: it is truncated, too long, or describes more layers than there may be.
    """
    if not _MANDATORY <= len(data) <= MAX_DESCRIPTOR:
        raise RtpParseError(ParseFault.BAD_LENGTH, f"{len(data)} bytes of dependency descriptor")
    first = data[0]
    starts_frame, ends_frame, template_id = first > 127, bool(first & 0x40), first & 0x3F
    frame_number = data[1] << 8 | data[2]
    if len(data) == _MANDATORY:
        return DependencyDescriptor(
            starts_frame, ends_frame, template_id, frame_number, None, None, _find_template(structure, template_id)
        )
    bits = _Bits(data[_MANDATORY:])
    flags = bits.read(5)
    attached = active = None
    if flags & 0x10:
        structure = attached = _decode_structure(bits)
        active = (1 << attached.decode_targets) - 1
    if structure is None:
        return DependencyDescriptor(starts_frame, ends_frame, template_id, frame_number)
    if flags & 0x08:
        active = bits.read(structure.decode_targets)
    frame = _find_template(structure, template_id)
    if frame is not None and flags & 0x07:
        frame = _decode_custom(bits, flags, frame)
    return DependencyDescriptor(starts_frame, ends_frame, template_id, frame_number, attached, active, frame)


def _find_template(structure: Structure | None, template_id: int) -> Template | None:
    if structure is None:
        return None
    index = template_id - structure.template_id_offset & MAX_TEMPLATES - 1
    return structure.templates[index] if index < len(structure.templates) else None


def _decode_custom(bits: _Bits, flags: int, template: Template) -> Template:
    indications, frame_diffs, chain_diffs = template.indications, template.frame_diffs, template.chain_diffs
    if flags & 0x04:
        indications = tuple(bits.read(2) for _ in indications)
    if flags & 0x02:
        diffs = []
        while size := bits.read(2):
            diffs.append(bits.read(4 * size) + 1)
        frame_diffs = tuple(diffs)
    if flags & 0x01:
        chain_diffs = tuple(bits.read(8) for _ in chain_diffs)
    return Template(template.spatial_id, template.temporal_id, indications, frame_diffs, chain_diffs)


def _decode_structure(bits: _Bits) -> Structure:
    template_id_offset = bits.read(6)
    decode_targets = bits.read(5) + 1
    layers = _decode_layers(bits)
    indications = [tuple(bits.read(2) for _ in range(decode_targets)) for _ in layers]
    frame_diffs = []
    for _ in layers:
        diffs = []
        while bits.read(1):
            diffs.append(bits.read(4) + 1)
        frame_diffs.append(tuple(diffs))
    chains = bits.read_below(decode_targets + 1)
    protected_by: tuple[int, ...] = ()
    if chains:
        protected_by = tuple(bits.read_below(chains) for _ in range(decode_targets))
    chain_diffs = [tuple(bits.read(4) for _ in range(chains)) for _ in layers]
    resolutions: tuple[tuple[int, int], ...] = ()
    if bits.read(1):
        resolutions = tuple((bits.read(16) + 1, bits.read(16) + 1) for _ in range(layers[-1][0] + 1))
    templates = tuple(
        Template(spatial_id, temporal_id, *rest)
        for (spatial_id, temporal_id), *rest in zip(layers, indications, frame_diffs, chain_diffs, strict=True)
    )
    return Structure(template_id_offset, decode_targets, templates, protected_by, resolutions)


def _decode_layers(bits: _Bits) -> list[tuple[int, int]]:
    layers: list[tuple[int, int]] = []
    spatial_id = temporal_id = 0
    while True:
        if len(layers) == MAX_TEMPLATES:
            raise RtpParseError(ParseFault.TOO_MANY, "templates")
        layers.append((spatial_id, temporal_id))
        match bits.read(2):
            case 1:
                temporal_id += 1
            case 2:
                temporal_id = 0
                spatial_id += 1
            case 3:
                return layers
        if temporal_id == MAX_TEMPORAL_LAYERS or spatial_id == MAX_SPATIAL_LAYERS:
            raise RtpParseError(ParseFault.TOO_MANY, "layers")


def with_frame_number(data: bytes, frame_number: int) -> bytes:
    """The same extension with another frame number, of which the lowest 16 bits count.

    Subscribers that change between streams see one: its frames must be numbered on, or they are taken for old ones.
    """
    return data[:1] + (frame_number & 0xFFFF).to_bytes(2) + data[3:]


class DependencyReader:
    """Reads the extensions of one stream, and keeps the structure that came last."""

    def __init__(self) -> None:
        self.structure: Structure | None = None
        self.active_decode_targets: int | None = None  # None: nothing was said yet

    def read(self, data: bytes) -> DependencyDescriptor:
        """Read the extension of the next packet.

        Raises:
            RtpParseError: as `decode_descriptor`; what was kept stays as it was.
        """
        descriptor = decode_descriptor(data, self.structure)
        if descriptor.attached is not None:
            self.structure = descriptor.attached
        if descriptor.active_decode_targets is not None:
            self.active_decode_targets = descriptor.active_decode_targets
        return descriptor
