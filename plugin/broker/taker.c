#include "broker/taker.h"

#include <stdio.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/mosquitto_api.h"

#define PAUSE_MS 60000U

static const char *protocol_of(const struct mosquitto *connection)
{
	switch (mosquitto_client_protocol_version(connection)) {
	case 3:
		return "MQTT 3.1";
	case 4:
		return "MQTT 3.1.1";
	default:
		return "MQTT 5";
	}
}

static void describe(struct taker *taker, const struct mosquitto *connection)
{
	const char *address = mosquitto_client_address(connection), *user = mosquitto_client_username(connection);

	(void)snprintf(taker->name, sizeof taker->name, "%.100s, %s%.200s%s, %s",
			address ? address : "a unix socket", user ? "user '" : "without a user name", user ? user : "",
			user ? "'" : "", protocol_of(connection));
}

bool taker_took(const struct mosquitto *connection)
{
	return mosquitto_client_clean_session(connection);
}

const char *taker_connection_gone(struct taker *taker, const struct mosquitto *connection, bool was_up)
{
	uint64_t now = now_ms();

	if (was_up || !taker->is_expected) {
		taker->is_expected = was_up && taker_took(connection);
		return NULL;
	}
	taker->is_expected = false;
	if (taker->said_at && now < taker->said_at + PAUSE_MS) {
		return NULL;
	}
	taker->said_at = now;
	describe(taker, connection);
	return taker->name;
}

void taker_session_up(struct taker *taker)
{
	taker->is_expected = false;
}
