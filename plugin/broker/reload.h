/* What happens at SIGHUP: Mosquitto's RELOAD event.
 *
 * Options that can change while the broker runs are applied, the others named in the log; a mistake changes
 * nothing and ends nobody. Mosquitto's `sys_interval`, which it tells no plugin, is found here, too, and at
 * start. Broker thread only. */
#ifndef MQTTASGI_RELOAD_H
#define MQTTASGI_RELOAD_H

struct broker;
struct options;
struct reload;
struct sys_tree;
struct versions_traits;

/* At start. Borrows all, which must outlive it, and sets sys_tree's interval. NULL when memory ran out. */
struct reload *reload_new(const struct options *options, const struct versions_traits *traits,
		struct broker *broker, struct sys_tree *sys_tree);

/* Takes NULL. */
void reload_free(struct reload *reload);

/* Callback for mosquitto_callback_register(); userdata is the struct reload. Returns what lets the plugins
 * after this one have the event too. */
int reload_on_event(int event, void *event_data, void *userdata);

#endif
