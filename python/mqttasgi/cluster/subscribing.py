"""What consumers subscribe to, and what the broker has answered to that."""

from __future__ import annotations

from typing import Callable

from .._reasons import FAILURE, about_code
from ..runtime.bridge import GUEST, NOT_SHARED
from .connection import Connection
from .filters import NEVER, Filters, Subscribed
from .log import Log
from .statistics import Statistics


class _Question:
    """A SUBSCRIBE or UNSUBSCRIBE that the broker has not answered."""

    __slots__ = ("handle", "is_end", "send", "sequence", "subscribed")

    def __init__(
        self,
        sequence: int,
        send: Callable[[], int],
        subscribed: Subscribed,
        handle: int = 0,
        *,
        is_end: bool = False,
    ) -> None:
        #: Of who asks; 0: nobody waits for the answer.
        self.sequence = sequence
        #: Sends it, and returns its number.
        self.send = send
        self.subscribed = subscribed
        #: The consumer that asks; 0: none does.
        self.handle = handle
        #: It is an UNSUBSCRIBE.
        self.is_end = is_end


class Subscribing:
    """Asks the broker, again over each connection until it has answered. Loop thread only.

    A consumer waits for each answer, so as many questions are open as tasks that ask.
    """

    def __init__(
        self,
        group: str,
        connection: Connection,
        answer: Callable[[int, int], None],
        log: Log,
        statistics: Statistics,
    ) -> None:
        """Take the group, and whom an answer is told: its question's sequence, and 0 or a reason code."""
        self.filters = Filters(group)
        self._connection = connection
        self._answer = answer
        self._log = log
        self._statistics = statistics
        #: What the broker has not answered, in this order.
        self._questions: list[_Question] = []
        #: Number of a packet -> which of them.
        self._asked: dict[int, _Question] = {}

    @property
    def waits(self) -> bool:
        """Whether the broker has something to answer."""
        return bool(self._questions)

    # ---- for consumers ----

    def subscribe(self, consumer: int, topic_filter: str, options: int, sequence: int) -> None:
        """Ask for a filter, as `Bridge.subscribe` does."""
        is_shared = not options & NOT_SHARED and not consumer & GUEST
        other = self.filters.replaced(consumer, topic_filter, is_shared)
        if other is not None:
            self._end(other, 0)
        subscribed = self.filters.add(consumer, topic_filter, options, is_shared)
        for raised in self.filters.raised_by(consumer, subscribed):
            self._ask(_Question(0, self._subscription(raised, 0, NEVER), raised))
        self._ask(_Question(sequence, self._subscription(subscribed, consumer), subscribed, consumer))

    def unsubscribe(self, consumer: int, topic_filter: str, sequence: int) -> None:
        """End a filter, if no other consumer of this process has it."""
        left = self.filters.remove(consumer, topic_filter)
        if left is None:
            self._answer(sequence, 0)
        else:
            self._end(left, sequence)

    def end_all_of(self, consumer: int) -> None:
        """End the filters of a consumer."""
        for left in self.filters.remove_all(consumer):
            self._end(left, 0)

    def end_all(self) -> None:
        """Have the broker send nothing more; what it has sent still finds its consumers."""
        asked = {question.subscribed.sent for question in self._questions if question.is_end}
        for sent, subscribed in self.filters.by_sent.items():
            if sent not in asked:
                self._end(subscribed, 0)

    # ---- the connection ----

    def up(self, session_present: bool) -> None:
        """Ask again for what is not answered, and for what the broker does not know any more."""
        questions, self._questions = self._questions, []
        asked = {question.subscribed.sent for question in questions}
        handling = NEVER if session_present else 0
        for subscribed in list(self.filters.by_sent.values()):
            # Mosquitto 2.0.11 forgets what is shared when it is started again, and keeps the session.
            is_doubtful = subscribed.is_shared or not session_present
            if is_doubtful and subscribed.sent not in asked:
                self._ask(_Question(0, self._subscription(subscribed, 0, handling), subscribed))
        for question in questions:
            if question.is_end or question.subscribed.options:
                self._ask(question)
            else:
                self._answer(question.sequence, 0)  # whoever wanted it has ended it meanwhile

    def down(self) -> None:
        """Note that what was asked gets no answer."""
        self._asked.clear()

    def answered(self, number: int, codes: list[int]) -> None:
        """Pass on what the broker has answered."""
        question = self._asked.pop(number, None)
        if question is None:
            return
        self._questions.remove(question)
        code = max(codes, default=0)
        if code >= FAILURE:
            self._statistics.add("session/refused", 1)
            self._log.error(f"No subscription to {question.subscribed.sent!r:.400}: {about_code(code)}.")
            self.filters.forget(question.subscribed, question.handle)
        else:
            question.subscribed.is_confirmed = True
        self._answer(question.sequence, code if code >= FAILURE else 0)

    def _subscription(self, subscribed: Subscribed, handle: int, handling: int = 0) -> Callable[[], int]:
        def send() -> int:
            identifier = self.filters.ask(subscribed, handle)
            options = subscribed.merged(handle) | handling
            return self._connection.subscribe(subscribed.sent, options, identifier)

        return send

    def _end(self, subscribed: Subscribed, sequence: int) -> None:
        sent = subscribed.sent
        self._ask(_Question(sequence, lambda: self._connection.unsubscribe(sent), subscribed, is_end=True))

    def _ask(self, question: _Question) -> None:
        self._questions.append(question)
        if self._connection.is_up:
            self._asked[question.send()] = question
