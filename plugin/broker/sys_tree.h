/* Publishes the statistics below `$SYS/broker/mqttasgi/`, as Mosquitto does its own below `$SYS/broker/`:
 * retained, once per `sys_interval`, only what has changed; and at once when the session is up or down, or a
 * consumer runs or has failed. Broker thread only.
 *
 * They are no messages of the application's: they are not counted, and consumers that subscribe to them get
 * them as they get all of $SYS, through the session. Mosquitto keeps no $SYS topic over a restart, whoever
 * published it. */
#ifndef MQTTASGI_SYS_TREE_H
#define MQTTASGI_SYS_TREE_H

#include <stdbool.h>

struct lanes;
struct queue;
struct statistics;
struct sys_tree;
struct wakeup;

#define SYS_TREE_PREFIX "$SYS/broker/mqttasgi/"

/* What is looked at when it is time to publish. */
struct sys_tree_sources {
	struct statistics *statistics;
	const struct queue *inbound;
	const struct queue *outbound;
	const struct wakeup *wakeup;
	const struct lanes *lanes;
	bool has_session; /* whether there is to be one */
	bool has_keeper;  /* whether there is a durable inbox; without one nothing is said of it */
	bool has_web;     /* whether HTTP is served; the same */
};

/* Publishes nothing before the first sys_tree_set_interval(). Borrows all sources, which must outlive it.
 * NULL when memory ran out. */
struct sys_tree *sys_tree_new(const struct sys_tree_sources *sources);

/* Takes NULL. */
void sys_tree_free(struct sys_tree *sys_tree);

/* Seconds from one time to the next, the first of them at the next tick. 0: nothing is published any more,
 * and what was is taken back. */
void sys_tree_set_interval(struct sys_tree *sys_tree, unsigned int seconds);

/* In each TICK. */
void sys_tree_tick(struct sys_tree *sys_tree);

#endif
