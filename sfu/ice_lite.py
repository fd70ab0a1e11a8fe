"""ICE for a server with public addresses: it answers checks and begins none but one (RFC 8445 §2.5, "lite").

A lite agent sends where it is told to. Somebody who forges the source of his checks could point what he is sent at an
address of somebody else, who has never asked for it. So an address that takes the place of another one must answer a
check of ours first, as every full agent does (§7.3); the first one proves itself by the DTLS handshake.

One `IceLite` serves all PeerConnections of a worker behind one port; a check names the one that it is for by the user
name fragment that signaling gave to the client.

Whoever cannot prove that fragment's password gets no answer at all. RFC 8489 §9.1.3 would send 400 and 401, but a
client that was told its credentials has no use for them, and to anybody else silence tells less and reflects nothing.

There are no role conflicts here: a client that is a full agent always controls (RFC 8445 §6.1.1), and only full agents
detect and repair the contrary (§7.3.1.1). A client that claims to be controlled is answered, but nominates nothing.
"""

import base64
import hmac
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from sfu.media_engine import SessionId
from sfu.rate_limit import RateLimit
from stun.address import TransportAddress
from stun.attributes import UNDERSTOOD_IN_BINDING, USERNAME, XOR_MAPPED_ADDRESS, pack_attribute
from stun.errors import IntegrityError, MessageParseError
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_message, encode_success, encode_unknown_attributes
from stun.registry import HEADER_LENGTH, IntegrityAlgorithm, MessageClass, Method

CREDENTIAL_ENTROPY_BYTES: Final = 24  # 48 bits for the fragment, 144 for the password (RFC 8445 §5.3 wants 24 and 128)
CONSENT_SECONDS: Final = 30.0  # RFC 7675 §5.1; also how long the first check may take
ADDRESS_HOLD_SECONDS: Final = (
    15.0  # for so long after a check nobody else can claim its address; browsers repeat in 5 s
)
ASK_SECONDS: Final = 0.5  # between two checks of ours towards an address that has not answered
MAX_ASKS: Final = 3  # of them for one of the client's: some are lost, and forged ones must not win much
MAX_PAIRS: Final = 16  # addresses of one client
MAX_GENERATIONS: Final = 2  # credentials of one client: those before a restart count until those after it work
STRANGERS_PER_SECOND: Final = 400.0  # from one IP address: a practice of 20 behind one, each with two connections
STRANGERS_AT_ONCE: Final = 1600
CHECKS_PER_SECOND: Final = (
    50.0  # of a session, and what else its address sends; browsers send 20 in their worst seconds
)
CHECKS_AT_ONCE: Final = 100
MAX_LIMITED: Final = 4096  # sessions and addresses, of each kind

# RFC 8445 §16.1. The values do not matter to a lite agent, but whoever sends them expects them to be understood.
PRIORITY: Final = 0x0024
USE_CANDIDATE: Final = 0x0025
ICE_CONTROLLED: Final = 0x8029
ICE_CONTROLLING: Final = 0x802A
_UNDERSTOOD: Final = UNDERSTOOD_IN_BINDING | {PRIORITY, USE_CANDIDATE}
_UFRAG_BYTES: Final = 6
_TRANSACTION_ID_BYTES: Final = 12
_NAME_TYPE: Final = USERNAME.type.to_bytes(2)
_NAME_HEAD: Final = slice(HEADER_LENGTH, HEADER_LENGTH + 2)  # the type of the first attribute
_NAME: Final = slice(HEADER_LENGTH + 4, HEADER_LENGTH + 4 + 4 * _UFRAG_BYTES // 3)  # our fragment, in base64
_OUR_ATTRIBUTES: Final = (
    pack_attribute(PRIORITY, ((1 << 31) - 1).to_bytes(4)),
    pack_attribute(ICE_CONTROLLED, bytes(8)),  # there is no conflict that a tie-breaker could settle
)


class IceCredentials(NamedTuple):
    """What checks towards us are made with (RFC 8445 §5.3)."""

    ufrag: str
    password: str


@dataclass(frozen=True, slots=True)
class AddressValid:
    """A check came from there: what comes from it is the client's."""

    session: SessionId
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class AddressGone:
    """Nothing that comes from there is the client's any more."""

    session: SessionId
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class AddressChosen:
    """Send there from now on."""

    session: SessionId
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class CheckDue:
    """Send this check there: whoever answers it is reached there, too."""

    session: SessionId
    address: TransportAddress
    datagram: bytes


@dataclass(frozen=True, slots=True)
class ConsentLost:
    """No check came from anywhere for CONSENT_SECONDS: nothing may be sent any more."""

    session: SessionId


IceEvent = AddressValid | AddressGone | AddressChosen | CheckDue | ConsentLost


class IceCount(StrEnum):
    """What is counted; a bounded set, fit for a metric label."""

    ANSWERED = "answered"
    PROVED = "proved"  # an answer to a check of ours
    LIMITED = "limited"
    MALFORMED = "malformed"  # not STUN, or without FINGERPRINT
    NO_REQUEST = "no_request"  # STUN, but no Binding request, and no answer to one of ours
    UNKNOWN_USER = "unknown_user"
    UNAUTHENTICATED = "unauthenticated"  # no integrity, or a wrong one
    ADDRESS_TAKEN = "address_taken"  # the address is another client's
    UNKNOWN_ATTRIBUTE = "unknown_attribute"


class _Generation:
    """Credentials from one (re)start of ICE to the next."""

    def __init__(self, session: SessionId, number: int, credentials: IceCredentials) -> None:
        self.session = session
        self.number = number
        self.ufrag = credentials.ufrag
        self.key = IntegrityKey(credentials.password.encode())
        self.remote: IceCredentials | None = None  # until the client's description is here; checks may be faster


class _Pair:
    """An address of the client that has sent a check."""

    __slots__ = (
        "asked_at",
        "asks",
        "generation",
        "heard_at",
        "is_proved",
        "nominated_by",
        "remote_ufrag",
        "transaction_id",
    )

    def __init__(self, generation: int, heard_at: float, remote_ufrag: str, transaction_id: bytes) -> None:
        self.generation = generation
        self.heard_at = heard_at
        self.remote_ufrag = remote_ufrag
        self.transaction_id = transaction_id  # of our checks: who does not receive there cannot know it
        self.is_proved = False  # such a check was answered
        self.asks = MAX_ASKS  # since it was heard last
        self.asked_at = heard_at
        self.nominated_by = -1  # the latest generation whose credentials it was nominated with


class _Agent:
    """What there is to know of one PeerConnection."""

    def __init__(self, waiting_since: float) -> None:
        self.generations: list[_Generation] = []  # at most MAX_GENERATIONS, the latest one last
        self.restarts = 0
        self.pairs: dict[TransportAddress, _Pair] = {}
        self.chosen: TransportAddress | None = None
        self.has_chosen = False  # any address, ever
        self.wanted: TransportAddress | None = None  # was nominated last
        self.waiting_since: float | None = waiting_since  # for a first check, or the next one; None after ConsentLost


class IceLite:
    """The lite agents behind one port."""

    def __init__(self, secret: bytes) -> None:
        """Begin without agents.

        Args:
            secret: at random, told to nobody; at least as long as a transaction id.

        Raises:
            ValueError: it is shorter.
        """
        if len(secret) < _TRANSACTION_ID_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes")
        self._secret = secret
        self._pairs_made = 0
        self.counts: Final[dict[IceCount, int]] = dict.fromkeys(IceCount, 0)
        self._agents: dict[SessionId, _Agent] = {}
        self._by_ufrag: dict[str, _Generation] = {}
        self._owners: dict[TransportAddress, SessionId] = {}
        # Whoever floods us from the address of others, or in its name, shall neither take their consent away nor keep
        # them from coming: all whom a relay or a NAT speaks for have one address. Only the client knows its fragment.
        self._sessions = RateLimit[SessionId](CHECKS_PER_SECOND, CHECKS_AT_ONCE, MAX_LIMITED)
        self._strangers = RateLimit[bytes](STRANGERS_PER_SECOND, STRANGERS_AT_ONCE, MAX_LIMITED)
        self._clients = RateLimit[TransportAddress](CHECKS_PER_SECOND, CHECKS_AT_ONCE, MAX_LIMITED)
        self._events: deque[IceEvent] = deque()

    def __len__(self) -> int:
        return len(self._agents)

    def add(self, session: SessionId, entropy: bytes, now: float) -> IceCredentials:
        """Begin to answer checks for a session.

        Args:
            session: not known yet.
            entropy: CREDENTIAL_ENTROPY_BYTES at random.
            now: monotonic time, in seconds.

        Returns:
            what the client must be told.

        Raises:
            ValueError: the session is known already, or the entropy was used before or has another length.
        """
        if session in self._agents:
            raise ValueError(f"session {session} is known already")
        credentials = self._make_credentials(entropy)
        self._agents[session] = _Agent(now)
        self._begin_generation(session, credentials)
        return credentials

    def restart(self, session: SessionId, entropy: bytes, now: float) -> IceCredentials:
        """Make new credentials (RFC 8445 §9). The old ones and their addresses go on until the new ones work.

        Raises:
            KeyError: the session is not known.
            ValueError: the entropy was used before or has another length.
        """
        agent = self._agents[session]
        credentials = self._make_credentials(entropy)
        while len(agent.generations) >= MAX_GENERATIONS:
            self._end_generation(agent.generations.pop())  # a restart that came to nothing; the first ones work
        self._begin_generation(session, credentials)
        if agent.waiting_since is None:
            agent.waiting_since = now
        return credentials

    def set_remote(self, session: SessionId, credentials: IceCredentials) -> None:
        """From now on only checks of the client whose description has come count for the latest credentials.

        Args:
            session: known.
            credentials: of the client: what checks towards it are made with.

        Raises:
            KeyError: the session is not known.
        """
        agent = self._agents[session]
        generation = agent.generations[-1]
        generation.remote = credentials
        strangers = [
            address
            for address, pair in agent.pairs.items()
            if pair.generation == generation.number and pair.remote_ufrag != credentials.ufrag
        ]
        for address in strangers:
            self._forget_pair(session, agent, address)

    def remove(self, session: SessionId) -> None:
        """Answer no more checks for a session.

        Raises:
            KeyError: the session is not known.
        """
        agent = self._agents.pop(session)
        for generation in agent.generations:
            self._end_generation(generation)
        for address in agent.pairs:
            self._release(session, address)

    def receive(self, datagram: bytes, source: TransportAddress, now: float) -> bytes | None:
        """Take a STUN message.

        Args:
            datagram: what came.
            source: where it came from.
            now: monotonic time, in seconds.

        Returns:
            what to send back to the source, shorter than twice the datagram; None for silence.
        """
        count, response = self._answer(datagram, source, now)
        self.counts[count] += 1
        return response

    def handle_timeout(self, now: float) -> None:
        """Forget addresses that were silent for CONSENT_SECONDS (RFC 7675 §5.1); to be called some times a second."""
        for session, agent in self._agents.items():
            silent = [address for address, pair in agent.pairs.items() if pair.heard_at + CONSENT_SECONDS <= now]
            for address in silent:
                self._forget_pair(session, agent, address)
            self._ask_again(agent, now)
            if not agent.pairs and agent.waiting_since is not None and agent.waiting_since + CONSENT_SECONDS <= now:
                agent.waiting_since = None
                self._events.append(ConsentLost(session))

    def poll_event(self) -> IceEvent | None:
        """What happened, in order; None when there is nothing more."""
        return self._events.popleft() if self._events else None

    def _answer(self, datagram: bytes, source: TransportAddress, now: float) -> tuple[IceCount, bytes | None]:
        if not self._admits(datagram, source, now):
            return IceCount.LIMITED, None
        try:
            request = decode_message(datagram)
            username = request.get(USERNAME)
        except MessageParseError:
            return IceCount.MALFORMED, None
        if not request.has_fingerprint:
            return IceCount.MALFORMED, None
        if request.method == Method.BINDING and request.message_class is MessageClass.SUCCESS:
            return self._take_proof(request, source), None
        if request.method != Method.BINDING or request.message_class is not MessageClass.REQUEST:
            return IceCount.NO_REQUEST, None
        local_ufrag, _, remote_ufrag = (username or "").partition(":")
        generation = self._by_ufrag.get(local_ufrag)
        if generation is None or (generation.remote is not None and generation.remote.ufrag != remote_ufrag):
            return IceCount.UNKNOWN_USER, None
        if request.integrity is None:
            return IceCount.UNAUTHENTICATED, None
        try:
            request.verify(generation.key)
        except IntegrityError:
            return IceCount.UNAUTHENTICATED, None
        unknown = request.unknown_attributes(_UNDERSTOOD)
        if unknown:
            return IceCount.UNKNOWN_ATTRIBUTE, encode_unknown_attributes(request, unknown, key=generation.key)
        if not self._claim(generation.session, source, now):
            return IceCount.ADDRESS_TAKEN, None
        self._take_check(request, generation, source, remote_ufrag, now)
        mapped = XOR_MAPPED_ADDRESS.pack(source, request.transaction_id)
        return IceCount.ANSWERED, encode_success(request, (mapped,), key=generation.key)

    def _admits(self, datagram: bytes, source: TransportAddress, now: float) -> bool:
        """Whether there is time to look at a datagram, told before it is decoded."""
        if datagram[_NAME_HEAD] == _NAME_TYPE:  # where browsers have it
            named = self._by_ufrag.get(datagram[_NAME].decode("latin-1"))
            if named is not None:
                return self._sessions.admits(named.session, now)
        if source in self._owners:
            return self._clients.admits(source, now)
        return self._strangers.admits(source.ip, now)

    def _claim(self, session: SessionId, address: TransportAddress, now: float) -> bool:
        """Let an address belong to a session, unless it has just been proved to be another's.

        A source address can be forged. Without this, a participant could take another one's media away with a single
        check; with it, an address only changes hands after a silence, as NATs give ports to somebody else.
        """
        owner = self._owners.get(address)
        if owner is not None and owner != session:
            agent = self._agents[owner]
            if now < agent.pairs[address].heard_at + ADDRESS_HOLD_SECONDS:
                return False
            self._forget_pair(owner, agent, address)
        return True

    def _take_check(
        self, request: Message, generation: _Generation, source: TransportAddress, remote_ufrag: str, now: float
    ) -> None:
        session = generation.session
        agent = self._agents[session]
        pair = agent.pairs.get(source)
        if pair is None:
            if len(agent.pairs) == MAX_PAIRS:
                self._forget_pair(session, agent, self._stalest(agent))
            pair = agent.pairs[source] = _Pair(generation.number, now, remote_ufrag, self._make_transaction_id())
            self._owners[source] = session
            self._events.append(AddressValid(session, source))
        else:
            pair.heard_at = now
            if generation.number >= pair.generation:
                pair.generation = generation.number
                pair.remote_ufrag = remote_ufrag
        agent.waiting_since = now
        if USE_CANDIDATE in request.values and ICE_CONTROLLING in request.values:
            # Browsers nominate again as they change their minds: the last one counts.
            agent.wanted = source
            pair.nominated_by = max(pair.nominated_by, generation.number)
        if agent.wanted == source or agent.chosen is None:
            if pair.is_proved or agent.chosen == source or not agent.has_chosen:
                self._settle_on(session, agent, source)
            if agent.wanted == source != agent.chosen:
                pair.asks = 0
                self._challenge(generation, pair, source, now)

    def _challenge(self, generation: _Generation, pair: _Pair, address: TransportAddress, now: float) -> None:
        """Send a check, no longer than those of the client, so that forged ones win little."""
        if generation.remote is None:
            return  # when it is known
        pair.asks += 1
        pair.asked_at = now
        datagram = encode_message(
            Method.BINDING,
            MessageClass.REQUEST,
            pair.transaction_id,
            (USERNAME.pack(f"{generation.remote.ufrag}:{generation.ufrag}"), *_OUR_ATTRIBUTES),
            key=IntegrityKey(generation.remote.password.encode()),
            algorithm=IntegrityAlgorithm.SHA1,
            fingerprint=True,
        )
        self._events.append(CheckDue(generation.session, address, datagram))

    def _ask_again(self, agent: _Agent, now: float) -> None:
        """Repeat a check that was not answered, or could not be sent before the client's description had come."""
        if agent.wanted is None or agent.wanted == agent.chosen:
            return
        pair = agent.pairs.get(agent.wanted)
        if pair is not None and pair.asks < MAX_ASKS and (not pair.asks or pair.asked_at + ASK_SECONDS <= now):
            self._challenge(agent.generations[-1], pair, agent.wanted, now)

    def _take_proof(self, response: Message, source: TransportAddress) -> IceCount:
        """Believe that a client receives where it has answered a check of ours."""
        session = self._owners.get(source)
        if session is None:
            return IceCount.NO_REQUEST
        agent = self._agents[session]
        pair = agent.pairs[source]
        if not hmac.compare_digest(response.transaction_id, pair.transaction_id):
            return IceCount.NO_REQUEST
        if not any(_is_signed(response, generation) for generation in agent.generations):
            return IceCount.UNAUTHENTICATED
        pair.is_proved = True
        if agent.wanted == source or agent.chosen is None:
            self._settle_on(session, agent, source)
        return IceCount.PROVED

    def _settle_on(self, session: SessionId, agent: _Agent, address: TransportAddress) -> None:
        self._choose(session, agent, address)
        if agent.pairs[address].nominated_by == agent.generations[-1].number:
            self._end_earlier(session, agent)

    def _end_earlier(self, session: SessionId, agent: _Agent) -> None:
        latest = agent.generations[-1]
        for generation in agent.generations[:-1]:
            self._end_generation(generation)
        agent.generations = [latest]
        for address in [address for address, pair in agent.pairs.items() if pair.generation < latest.number]:
            self._forget_pair(session, agent, address)

    def _choose(self, session: SessionId, agent: _Agent, address: TransportAddress) -> None:
        if agent.chosen != address:
            agent.chosen = address
            agent.has_chosen = True
            self._events.append(AddressChosen(session, address))

    def _forget_pair(self, session: SessionId, agent: _Agent, address: TransportAddress) -> None:
        del agent.pairs[address]
        self._release(session, address)
        if agent.chosen == address:
            agent.chosen = None
            proved = [each for each, pair in agent.pairs.items() if pair.is_proved]
            if proved:
                self._choose(session, agent, max(proved, key=lambda each: agent.pairs[each].heard_at))

    def _release(self, session: SessionId, address: TransportAddress) -> None:
        del self._owners[address]
        self._events.append(AddressGone(session, address))

    @staticmethod
    def _stalest(agent: _Agent) -> TransportAddress:
        return min(
            (address for address in agent.pairs if address != agent.chosen),
            key=lambda address: agent.pairs[address].heard_at,
        )

    def _make_transaction_id(self) -> bytes:
        self._pairs_made += 1
        return hmac.digest(self._secret, str(self._pairs_made).encode(), "sha256")[:_TRANSACTION_ID_BYTES]

    def _make_credentials(self, entropy: bytes) -> IceCredentials:
        if len(entropy) != CREDENTIAL_ENTROPY_BYTES:
            raise ValueError(f"{len(entropy)} bytes of entropy, not {CREDENTIAL_ENTROPY_BYTES}")
        ufrag, password = base64.b64encode(entropy[:_UFRAG_BYTES]), base64.b64encode(entropy[_UFRAG_BYTES:])
        if ufrag.decode() in self._by_ufrag:
            raise ValueError("this entropy was used before")
        return IceCredentials(ufrag.decode(), password.decode())

    def _begin_generation(self, session: SessionId, credentials: IceCredentials) -> None:
        agent = self._agents[session]
        generation = _Generation(session, agent.restarts, credentials)
        agent.restarts += 1
        agent.generations.append(generation)
        self._by_ufrag[credentials.ufrag] = generation

    def _end_generation(self, generation: _Generation) -> None:
        del self._by_ufrag[generation.ufrag]


def _is_signed(response: Message, generation: _Generation) -> bool:
    """Whether an answer is signed with the password of the client (RFC 8445 §7.2.2)."""
    if generation.remote is None or response.integrity is None:
        return False
    try:
        response.verify(IntegrityKey(generation.remote.password.encode()))
    except IntegrityError:
        return False
    return True
