"""Which process of a group leads: never two, whatever the store and the clock do; and what is said of it."""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from django.db import connections

from mqttasgi.cluster import lease_database, lease_redis
from mqttasgi.cluster.lease import IsLeader, Leader, make
from mqttasgi.cluster.lease_database import DatabaseStore
from mqttasgi.cluster.lease_store import StoreError, Timing
from support.processes import PATIENCE, wait_until

TIMINGS = {"database": lease_database.TIMING, "redis": lease_redis.TIMING}


class World:
    """Time, and the store's memory."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.leases: dict[str, tuple[str, float]] = {}


class FakeStore:
    """A process's way to the store. `before` and `after` are called around what the server does."""

    where = "the store"

    def __init__(self, world: World, timing: Timing) -> None:
        self.world = world
        self.timing = timing
        self.away = ""
        self.lasting = False
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.asked = 0

    def _ask(self, step: Callable[[], bool]) -> bool:
        self.asked += 1
        if self.away:
            raise StoreError(self.away, self.lasting)
        self.before()
        found = step()
        self.after()
        return found

    def _holder(self, name: str) -> str:
        holder, ends = self.world.leases.get(name, ("", 0.0))
        # A database's row is its holder's until another has taken it; a key in Redis is not.
        return holder if ends > self.world.now or not self.timing.settling else ""

    def acquire(self, name: str, holder: str, seconds: float) -> bool:
        def step() -> bool:
            if self.world.leases.get(name, ("", 0.0))[1] > self.world.now:
                return False
            self.world.leases[name] = holder, self.world.now + seconds
            return True

        return self._ask(step)

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        def step() -> bool:
            if self._holder(name) != holder:
                return False
            self.world.leases[name] = holder, self.world.now + seconds
            return True

        return self._ask(step)

    def release(self, name: str, holder: str) -> None:
        def step() -> bool:
            if self._holder(name) == holder:
                del self.world.leases[name]
            return True

        self._ask(step)

    def close(self) -> None:
        pass


class Process:
    """A leader whose thread is the test."""

    def __init__(self, world: World, timing: Timing, speed: float = 1.0) -> None:
        self.world = world
        self.store = FakeStore(world, timing)
        self.changes: list[bool] = []
        self.leader = Leader(self.store, "fleet", self.changes.append, lambda: world.now * speed)
        self.is_leader = IsLeader(self.leader)
        self.in_a_turn = False

    def turn(self) -> None:
        self.in_a_turn = True
        self.leader._turn()
        self.in_a_turn = False

    def starts_anew(self) -> None:
        """Ends in order, and is back."""
        self.in_a_turn = True
        self.leader._ends.set()
        self.leader._end()
        self.leader._span = None
        self.leader._ends.clear()
        self.in_a_turn = False

    def leads_by(self, seconds: float) -> bool:
        """Has its turns for so long, and returns whether it leads then."""
        ends = self.world.now + seconds
        while self.world.now < ends:
            self.turn()
            self.world.now += self.store.timing.renewal
        return bool(self.is_leader)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=TIMINGS)
def timing(request: pytest.FixtureRequest) -> Timing:
    return TIMINGS[request.param]


class Fleet:
    """Processes that have their turns, and answers their delays, as chance wants it; looks at all at each moment."""

    def __init__(self, seed: int, timing: Timing) -> None:
        self.chance = random.Random(seed)
        self.world = World()
        self.timing = timing
        # The margin is an eighth: clocks that differ by a tenth are no excuse.
        self.processes = [Process(self.world, timing, 1 + self.chance.uniform(-0.05, 0.05)) for _ in range(3)]
        self.led = 0
        self.two = False
        for process in self.processes:
            process.store.before = process.store.after = self.delay

    def look(self) -> None:
        leading = sum(map(bool, (process.is_leader for process in self.processes)))
        # Not an assertion: it could be a leader's question that is under way, who takes what is raised.
        self.two = self.two or leading > 1
        self.led += leading

    def goes_by(self, seconds: float) -> None:
        """Let time go by in small steps."""
        for _ in range(5):
            self.world.now += seconds / 5
            self.look()

    def delay(self) -> None:
        """What can be between a question, what the server does, and the answer."""
        what = self.chance.random()
        if what < 0.6:
            return
        if what < 0.9:
            for _ in range(self.chance.randrange(1, 6)):
                self.event()
        if what > 0.85:
            raise StoreError("lost")

    def event(self) -> None:
        self.goes_by(self.chance.choice([0.01, 0.1, 0.5, self.timing.renewal, 1.0, 3.0]))
        idle = [process for process in self.processes if not process.in_a_turn]
        if self.timing.settling and self.chance.random() < 0.05:
            self.world.leases.clear()  # killed, and back empty
        elif idle:
            process = self.chance.choice(idle)
            if self.chance.random() < 0.02:
                process.starts_anew()
            process.turn()
        self.look()


@pytest.fixture
def unsaid(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads what is said in so many runs."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.usefixtures("unsaid")
@pytest.mark.parametrize("seed", range(60))
def test_there_are_never_two_leaders(seed: int, timing: Timing) -> None:
    fleet = Fleet(seed, timing)
    for _ in range(400):
        fleet.event()
    assert fleet.led and not fleet.two


@pytest.mark.usefixtures("unsaid")
@pytest.mark.parametrize("wrong", ["margin", "settling"])
def test_that_test_would_see_two(wrong: str) -> None:
    timing = lease_redis.TIMING._replace(**{wrong: -1.0 if wrong == "margin" else 0.001})
    fleets = [Fleet(seed, timing) for seed in range(60)]
    for fleet in fleets:
        for _ in range(400):
            fleet.event()
    assert any(fleet.two for fleet in fleets)


def test_the_first_one_leads_and_goes_on(world: World, timing: Timing) -> None:
    one, other = Process(world, timing), Process(world, timing)
    for _ in range(100):
        one.turn()
        other.turn()
        world.now += timing.renewal
    assert one.is_leader and not other.is_leader
    assert (one.changes, other.changes) == ([True], [])


def test_another_leads_soon_when_the_leader_is_killed(world: World, timing: Timing) -> None:
    one, other = Process(world, timing), Process(world, timing)
    assert one.leads_by(20)
    assert other.leads_by(10)
    assert not one.is_leader


def test_what_was_just_taken_from_a_store_that_forgets_does_not_count_yet(world: World) -> None:
    timing = lease_redis.TIMING
    one, other = Process(world, timing), Process(world, timing)
    assert one.leads_by(20)
    world.leases.clear()
    other.turn()
    other.turn()
    assert one.is_leader and not other.is_leader
    one.turn()
    assert not one.is_leader
    assert other.leads_by(timing.settling)


def test_an_answer_that_comes_late_prolongs_from_when_it_was_asked(world: World, timing: Timing) -> None:
    process = Process(world, timing)
    assert process.leads_by(20)

    def late() -> None:
        world.now += timing.seconds

    process.store.after = late
    process.turn()
    assert not process.is_leader
    assert process.changes == [True, False]
    process.store.after = lambda: None
    assert process.leads_by(2 * timing.seconds)


def test_a_process_that_stood_still_does_not_lead(world: World, timing: Timing) -> None:
    process = Process(world, timing)
    assert process.leads_by(20)
    world.now += timing.seconds
    assert not process.is_leader


def test_a_store_that_is_away_is_told_once(
    world: World, timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    process = Process(world, timing)
    assert process.leads_by(20)
    caplog.clear()
    for process.store.away in ("it ends", "connection refused", "it starts"):
        process.leads_by(timing.seconds)
    assert not process.is_leader
    process.store.away = ""
    assert process.leads_by(2 * timing.seconds)
    assert [record.getMessage() for record in caplog.records] == [
        "The lease 'fleet', which says who leads, cannot be had from the store: it ends. "
        f"It is tried every {timing.renewal:g} s.",
        "This process does not lead any more: the lease 'fleet' was not renewed in time.",
        "The lease 'fleet' can be had from the store again.",
        "This process leads now (lease 'fleet' in the store).",
    ]  # fmt: skip
    assert all(record.exc_info is None for record in caplog.records)


def test_what_somebody_has_to_mend_is_told_also_later(
    world: World, timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(world, timing)
    process.store.away = "connection refused"
    process.turn()
    process.store.away, process.store.lasting = "no table", True
    process.turn()
    process.turn()
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        f"connection refused. It is tried every {timing.renewal:g} s.",
        f"no table. It is tried every {timing.renewal:g} s.",
    ]


def test_what_a_driver_raises_is_told(world: World, timing: Timing, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(world, timing)

    def breaks() -> None:
        raise RuntimeError("the driver's")

    process.store.before = breaks
    process.turn()
    process.turn()
    assert [record.getMessage().split(": ")[1:] for record in caplog.records] == [
        ["RuntimeError", f"the driver's. It is tried every {timing.renewal:g} s."]
    ]
    process.store.before = lambda: None
    assert process.leads_by(2 * timing.seconds)


def test_a_scope_has_as_good_as_a_bool(world: World) -> None:
    process = Process(world, lease_database.TIMING)
    scope: dict[str, Any] = {"is_leader": process.is_leader}
    assert not scope["is_leader"] and scope["is_leader"] == False and scope["is_leader"] != True  # noqa: E712
    assert repr(scope["is_leader"]) == "False" and hash(scope["is_leader"]) == hash(False)
    process.turn()
    assert scope["is_leader"] and scope["is_leader"] == True and {True: 1}[scope["is_leader"]]  # noqa: E712
    assert scope["is_leader"] == IsLeader(process.leader)
    assert scope["is_leader"] != "True" and repr(dict(scope)) == "{'is_leader': True}"


# ---- its thread ----

QUICK = Timing(seconds=60.0, renewal=0.05, margin=0.1)


class Live:
    """Leaders with threads, by this machine's clock."""

    def __init__(self) -> None:
        self.leaders: list[Leader] = []

    def start(self, store: Any, on_change: Callable[[bool], None] | None = None) -> Leader:
        leader = Leader(store, "fleet", on_change)
        self.leaders.append(leader)
        leader.start()
        return leader


@pytest.fixture
def live() -> Iterator[Live]:
    live = Live()
    yield live
    for leader in live.leaders:
        leader.stop()
    assert not [leader for leader in live.leaders if leader._thread.is_alive()]


class TimedStore(FakeStore):
    """By this machine's clock."""

    def _ask(self, step: Callable[[], bool]) -> bool:
        self.world.now = self._clock()
        return super()._ask(step)

    @staticmethod
    def _clock() -> float:
        from mqttasgi.cluster.lease import _clock

        return _clock()


def test_an_orderly_end_lets_another_lead(live: Live, world: World) -> None:
    changes: list[bool] = []
    one = live.start(TimedStore(world, QUICK), changes.append)
    wait_until(lambda: one.leads, 5, "the leader")
    other = live.start(TimedStore(world, QUICK))
    one.stop()
    assert not one.leads and changes == [True, False]
    assert world.leases.get("fleet", ("", 0.0))[0] != one._holder
    wait_until(lambda: other.leads, 5, "the other one")


def test_a_store_that_refuses_the_release_is_closed(
    live: Live, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, holder: str) -> None:
        raise StoreError("read-only")

    closed: list[bool] = []
    store = TimedStore(world, QUICK)
    monkeypatch.setattr(store, "release", refuse)
    monkeypatch.setattr(store, "close", lambda: closed.append(True))
    leader = live.start(store)
    wait_until(lambda: leader.leads, 5, "the leader")
    leader.stop()
    assert closed == [True]


def test_who_is_told_of_a_change_may_fail(live: Live, world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fails(leads: bool) -> None:
        raise RuntimeError("who is told")

    store = TimedStore(world, QUICK)
    leader = live.start(store, fails)
    wait_until(lambda: leader.leads and store.asked > 3, 5, "the leader")
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [  # type: ignore[union-attr]
        ("who is told",)
    ]


def test_a_loss_is_told_while_nothing_is_asked(live: Live, world: World) -> None:
    changes: list[bool] = []
    leader = live.start(TimedStore(world, QUICK._replace(seconds=1.5, renewal=3600.0)), changes.append)
    wait_until(lambda: changes == [True, False], 5, "the end of a lease")
    assert not leader.leads


def test_stopping_does_not_wait_for_a_store_that_hangs(world: World) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    store = TimedStore(world, QUICK._replace(patience=0.05))

    def hang() -> None:
        hangs.set()
        goes_on.wait(60 * PATIENCE)

    store.before = hang
    leader = Leader(store, "fleet")
    leader.start()
    assert hangs.wait(5 * PATIENCE)
    leader.stop()
    assert leader._thread.is_alive() and not leader.leads
    goes_on.set()
    leader._thread.join(5 * PATIENCE)
    assert not leader._thread.is_alive()


# ---- SQLite ----


@pytest.fixture
def sqlite(django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The database `leases`, which is a file that is not there yet."""
    path = tmp_path / "leases.sqlite3"
    databases = {**connections.settings, "leases": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}}
    connections.configure_settings(databases)
    monkeypatch.setitem(connections.settings, "leases", databases["leases"])
    with django_db_blocker.unblock():
        yield path


def test_a_table_makes_itself(sqlite: Path) -> None:
    one, other = DatabaseStore("leases"), DatabaseStore("leases")
    assert one.acquire("fleet", "a", 3600)
    assert not one.acquire("fleet", "b", 3600) and not other.acquire("fleet", "b", 3600)
    assert other.acquire("another fleet", "b", 3600)
    assert one.renew("fleet", "a", 3600) and not other.renew("fleet", "b", 3600)
    other.release("fleet", "b")
    assert not other.acquire("fleet", "c", 3600)
    one.release("fleet", "a")
    assert one.renew("fleet", "a", 3600)  # nobody has taken it
    one.release("fleet", "a")
    assert other.acquire("fleet", "c", 3600)
    one.close()
    other.close()


def test_a_lease_in_a_database_runs_out_by_itself(sqlite: Path) -> None:
    one, other = DatabaseStore("leases"), DatabaseStore("leases")
    assert one.acquire("fleet", "a", 0.05)
    wait_until(lambda: other.acquire("fleet", "b", 3600), 5, "the end of the lease")
    assert not one.renew("fleet", "a", 3600)
    one.close()
    other.close()


def test_threads_share_a_lease_in_sqlite(sqlite: Path, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_database, "TIMING", QUICK)
    one, other = (live.start(DatabaseStore("leases")) for _ in range(2))
    wait_until(lambda: one.leads or other.leads, 10, "a leader")
    leader, follower = (one, other) if one.leads else (other, one)
    leader.stop()
    wait_until(lambda: follower.leads, 10, "the other one")


def test_a_database_that_cannot_be_opened_is_away(sqlite: Path, tmp_path: Path) -> None:
    connections.settings["leases"]["NAME"] = tmp_path / "no folder" / "db"
    store = DatabaseStore("leases")
    with pytest.raises(StoreError, match="unable to open database file") as raised:
        store.acquire("fleet", "a", 1)
    assert not raised.value.lasting
    store.close()


# ---- where it is ----


def test_nothing_is_made_where_nothing_is_wanted() -> None:
    assert make("", "fleet") is None


def test_where_a_lease_can_be(sqlite: Path) -> None:
    for where, said in (
        ("database:leases", "the database 'leases'"),
        ("redis://user:secret@localhost:6379/0?password=secret", "redis://localhost:6379/0"),
        ("rediss://localhost", "rediss://localhost"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
    ):
        leader = make(where, "fleet")
        assert leader is not None and leader._store.where == said and not leader.leads


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("memcached://localhost", "cannot be in 'memcached': write database, database:<alias"),
        ("databases", "cannot be in 'databases': write database"),
        ("database:other", r"database 'other': DATABASES has default.*, but not that\."),
        ("database", r"database 'default': it is in the memory of each process"),
        ("redis://localhost:port/0", r"cannot be in redis://localhost:port/0: .*port"),
    ],
)
def test_a_wrong_place_is_a_sentence(where: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(where, "fleet")


def test_a_database_of_another_kind_is_a_sentence(sqlite: Path) -> None:
    connections.settings["leases"]["ENGINE"] = "django.db.backends.dummy"
    with pytest.raises(ValueError, match=r"neither PostgreSQL.* or has no ENGINE"):
        make("database:leases", "fleet")


def test_a_missing_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ValueError, match=r"needs the package redis.*: pip install redis"):
        make("redis://localhost", "fleet")
