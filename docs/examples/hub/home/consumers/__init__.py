"""One file per idea. `master.py` is what the broker starts; it spawns the others as workers.

Two habits that all of them share:

The ORM is called through `database_sync_to_async`. Django has `acreate()` and `aexists()` only
since 4.1, and this works the same on 3.2 to 5.2; it also closes connections that have gone stale,
which nothing else does where there are no requests. From 4.1 on you may write
`await MotionEvent.objects.acreate(room=room)` instead.

What leads to an action is taken from live messages only. A retained one (`mqtt_message["retain"]`)
may be days old and comes again at every start: it must not switch on a lamp or count as a new
reading. The rooms and the availability of devices do take them, the last known state is what they
are for.
"""
