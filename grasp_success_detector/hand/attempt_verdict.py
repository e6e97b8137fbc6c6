"""One verdict for each attempt, and why it failed."""

from collections import deque
from dataclasses import dataclass, replace
import json

from grasp_success_detector.decision import Decision, NS_PER_S, Reason, unknown
from grasp_success_detector.hand.monitor import HandState
from grasp_success_detector.hand.motion import Phase
from grasp_success_detector.labels import FailureReason, Verdict

#: A verdict of SUCCESS for this time (s) means that the object was held.
_HELD_S = .2

#: Motion is noticed after this time (s): verdicts this old came before it.
_NOTICED_S = .3

#: Verdicts are kept for this time (s).
_KEPT_S = 1.


@dataclass(frozen=True)
class AttemptVerdict:
    """
    The verdict on one attempt.

    :ivar number: counts the attempts since the start, from 1.
    :ivar decision: the last one before the hand opened, with ``failure`` where it is known.
    :ivar begin_ns: time at which the hand began to close; by the same clock as ``end_ns``.
    """

    number: int
    decision: Decision
    begin_ns: int
    end_ns: int

    def to_json(self) -> str:
        """Return one line of JSON; ``reason`` says why it failed, or why nothing is known."""
        decision = self.decision
        reason = decision.reason if decision.failure is None else decision.failure
        known = decision.verdict is not Verdict.UNKNOWN
        return json.dumps({
            'attempt': self.number, 'verdict': decision.verdict.value, 'reason': reason.value,
            'probability': decision.probability if known else None,
            'seconds': round((self.end_ns - self.begin_ns) / NS_PER_S, 3)})


class AttemptWatch:
    """
    Follow the decisions and the hand through attempts.

    An attempt begins when the hand closes, and ends when it has opened or closes for the next.
    """

    def __init__(self) -> None:
        self._attempt = 0       # number by the hand
        self._number = 0        # number of those that were followed
        self._running = False
        self._begin_ns = self._seen_ns = 0
        self._held_ns = 0
        self._gripped = False
        self._recent: deque[tuple[int, Decision]] = deque()

    def observe(self, now_ns: int, decision: Decision, hand: HandState | None,
                ) -> tuple[Decision, AttemptVerdict | None]:
        """
        Return the decision with ``failure``, and the verdict on an attempt that is over.

        :param hand: what the hand says; None without joint states, which end no attempt.
        """
        over = None
        if hand is not None and hand.attempt != self._attempt:
            over = self.end(now_ns)
            self._begin(now_ns, hand.attempt)
        if not self._running:
            return decision, over
        if decision.holds_object:
            self._held_ns += min(now_ns - self._seen_ns, NS_PER_S // 2)
        self._seen_ns = now_ns
        if hand is not None:
            self._gripped = self._gripped or hand.gripped
        decision = self.explain(decision, hand)
        if hand is None or hand.phase in (Phase.CLOSING, Phase.CLOSED):
            self._recent.append((now_ns, decision))
            while now_ns - self._recent[0][0] > _KEPT_S * NS_PER_S:
                self._recent.popleft()
        elif hand.phase is Phase.OPEN:
            over = self.end(now_ns)
        return decision, over

    def explain(self, decision: Decision, hand: HandState | None) -> Decision:
        """Return a decision with the reason of a failure, where the running attempt tells it."""
        if not self._running or hand is None or decision.verdict is not Verdict.FAILURE:
            return decision
        return replace(decision, failure=self._failure(hand))

    def end(self, now_ns: int) -> AttemptVerdict | None:
        """End the running attempt; None if none runs."""
        if not self._running:
            return None
        self._running = False
        before_ns = (self._recent[-1][0] if self._recent else 0) - _NOTICED_S * NS_PER_S
        decision = unknown(Reason.NO_FRAMES)
        for at_ns, said in self._recent:
            if at_ns <= before_ns or decision.reason is Reason.NO_FRAMES:
                decision = said
        return AttemptVerdict(self._number, decision, self._begin_ns, now_ns)

    def _begin(self, now_ns: int, attempt: int) -> None:
        self._attempt, self._running = attempt, True
        self._number += 1
        self._begin_ns = self._seen_ns = now_ns
        self._held_ns, self._gripped = 0, False
        self._recent.clear()

    def _failure(self, hand: HandState) -> FailureReason | None:
        if self._held_ns >= _HELD_S * NS_PER_S:
            return FailureReason.SLIPPED
        if hand.not_closed:
            return FailureReason.NOT_CLOSED
        if self._gripped:
            return FailureReason.NOT_LIFTED
        told = hand.phase is Phase.CLOSED and hand.evidence.log_odds is not None
        return FailureReason.EMPTY if hand.evidence.empty or told else None
