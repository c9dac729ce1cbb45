"""Every measurement by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import chaos
import crowd
import durable
import echo
import retained
import session
import traffic
import wakeup
from contenders import COMPARED, ELSEWHERE
from machine import describe
from settings import Settings

Result = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """What measures, and what makes tables of its result."""

    about: str
    measure: Callable[[Settings], Result]
    tables: Callable[[Result], str]
    count: int = 0  # messages of one round, where the command line does not say
    contenders: tuple[str, ...] = ("plugin",)

    def run(self, settings: Settings) -> Result:
        """Measure; in the result also the settings and the machine, so that it says all by itself."""
        return {
            **self.measure(settings),
            "settings": settings.shown(),
            "machine": describe(settings),
        }


SCENARIOS = {
    "compare": Scenario(
        "echo round trips, messages a second and CPU of every contender, in turn, at QoS 0 and 1",
        echo.compare,
        echo.compare_tables,
        3000,
        COMPARED,
    ),
    "elsewhere": Scenario(
        "the same for processes beside the broker (--connect), one and several, and mqttasgi",
        echo.compare,
        echo.compare_tables,
        3000,
        ELSEWHERE,
    ),
    "many": Scenario(
        "ten workers against 10,000: spawning, memory, round trip to one of them",
        crowd.many,
        crowd.many_tables,
        2000,
    ),
    "idle-traffic": Scenario(
        "traffic that nobody in Python wants, with the plugin and without",
        traffic.idle_traffic,
        traffic.idle_traffic_tables,
        150_000,
    ),
    "wakeup": Scenario(
        "how soon the publishes of an idle application are delivered; how many later than --limit-us",
        wakeup.wakeup,
        wakeup.wakeup_tables,
        100_000,
    ),
    "retained": Scenario(
        "how soon a consumer and a C client have what the broker kept, with live traffic going on",
        retained.retained,
        retained.retained_tables,
        5000,
    ),
    "chaos": Scenario(
        "ordinary clients while consumers do all the harm of the chaos test, and on a quiet broker",
        chaos.chaos,
        chaos.chaos_tables,
    ),
    "session": Scenario(
        "session full, session off and a C client side by side, each on a broker of its own",
        session.session,
        session.session_tables,
        3000,
    ),
    "durable": Scenario(
        "what the durable inbox costs, with it and without in turn at QoS 1, and how soon a backlog is worked off",
        durable.durable,
        durable.durable_tables,
        3000,
    ),
    "builds": Scenario(
        "two builds of the plugin, for what a change costs; --against names the other",
        echo.builds,
        echo.builds_tables,
        5000,
    ),
}


def settings_for(name: str, settings: Settings) -> Settings:
    """Return the settings with this scenario's defaults where the command line left something open: 0, or empty."""
    scenario = SCENARIOS[name]
    return replace(
        settings,
        count=settings.count or scenario.count,
        contenders=settings.contenders or scenario.contenders,
    )
