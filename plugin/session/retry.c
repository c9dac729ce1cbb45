#include "session/retry.h"

#include <stdio.h>

#include "options/options.h"
#include "session/outlet.h"
#include "shared/clock.h"
#include "shared/mosquitto_api.h"

void retry_init(struct retry *retry, const struct options *options, struct outlet *outlet)
{
	*retry = (struct retry){.options = options, .outlet = outlet};
}

/* The listener, for a sentence. */
static const char *listener(const struct retry *retry, char *text, size_t size)
{
	if (retry->options->port) {
		(void)snprintf(text, size, "%s:%u", retry->options->host, retry->options->port);
	} else {
		(void)snprintf(text, size, "%s", retry->options->host);
	}
	return text;
}

static void give_up(const struct retry *retry, const char *reason)
{
	char where[300];

	outlet_log(retry->outlet, MOSQ_LOG_WARNING,
			"Gave up on the session with the listener at %s after %u tries: %s. Consumers hear what clients publish, but no "
			"retained messages, last wills, $SYS topics and shared subscriptions until the broker is started again. "
			"plugin_opt_retries 0 tries for ever; plugin_opt_session off goes without.",
			listener(retry, where, sizeof(where)), retry->failures, reason);
}

static void tell_failure(struct retry *retry, const char *reason, unsigned int pause)
{
	char where[300];

	(void)listener(retry, where, sizeof(where));
	if (retry->failures == 1) {
		retry->is_told = true;
		outlet_log(retry->outlet, MOSQ_LOG_WARNING,
				"No session with the listener at %s: %s. Consumers hear what clients publish; retained messages, last wills, "
				"$SYS topics and shared subscriptions have to wait. The options host, port, username, password, cacert, cert, "
				"key, use_ssl and transport name a listener of this broker and the way in.%s Trying again in %u s.",
				where, reason, retry->options->advice ? retry->options->advice : "", pause / 1000);
		outlet_tell_session(retry->outlet, false); /* which may never have been up */
	} else if (retry->failures > 1) {
		outlet_log(retry->outlet, MOSQ_LOG_DEBUG,
				"No session with the listener at %s, try %u: %s. Trying again in %u s.", where,
				retry->failures, reason, pause / 1000);
	}
}

bool retry_failed(struct retry *retry, bool was_up, const char *reason)
{
	unsigned int pause = RETRY_MS;

	if (was_up) {
		retry->failures = 0;
		(void)snprintf(retry->lost, sizeof(retry->lost), "%s", reason);
	} else {
		retry->failures++;
		pause = retry->failures > 5 ? RETRY_MAX_MS : 1000U << (retry->failures - 1);
	}
	if (retry->options->retries && retry->failures >= retry->options->retries) {
		give_up(retry, reason);
		return false;
	}
	retry->at = now_ms() + pause;
	tell_failure(retry, reason, pause);
	return true;
}

void retry_taken_over(struct retry *retry, uint64_t up_since, uint64_t now)
{
	const char *client_id = options_session_id(retry->options);
	char where[300];

	if (up_since != UINT64_MAX && now >= up_since + RETRY_TAKEN_QUIET_MS) {
		retry->taken = 0;
	}
	retry->taken++;
	retry->at = now + (retry->taken > 6 ? RETRY_TAKEN_MAX_MS : RETRY_MS << (retry->taken - 1));
	retry->is_told = true;
	if (retry->taken_said_at && now < retry->taken_said_at + RETRY_TAKEN_QUIET_MS) {
		return;
	}
	retry->taken_said_at = now;
	outlet_log(retry->outlet, MOSQ_LOG_WARNING,
			"The session with the listener at %s is lost: another client has connected with its client id, '%.200s', and the broker "
			"allows one of a name. Give that client, or the session (plugin_opt_client_id), another one; a line from here names it "
			"as far as the broker tells, else the broker's own 'New client connected from ADDRESS as %.200s' (log_type notice). "
			"Connecting again, as often as it happens.",
			listener(retry, where, sizeof(where)), client_id, client_id);
}

void retry_at_once(struct retry *retry)
{
	retry->is_told = true; /* the log is to say that it is back */
	retry->at = 0;
}

void retry_begins(struct retry *retry)
{
	char where[300];

	/* Not when it happens: a broker that stops closes its connections, and there is nothing wrong with
	 * that. */
	if (retry->lost[0]) {
		retry->is_told = true;
		outlet_log(retry->outlet, MOSQ_LOG_NOTICE,
				"The session with the listener at %s is lost: %s. Connecting again.",
				listener(retry, where, sizeof(where)), retry->lost);
		retry->lost[0] = '\0';
	}
}

void retry_succeeded(struct retry *retry, bool is_back)
{
	char where[300];

	(void)listener(retry, where, sizeof(where));
	retry->failures = 0;
	if (retry->is_told) {
		outlet_log(retry->outlet, MOSQ_LOG_NOTICE, "The session with the listener at %s is %s.", where,
				is_back ? "back" : "there");
	} else {
		outlet_log(retry->outlet, MOSQ_LOG_INFO, "Session with the listener at %s.", where);
	}
	retry->is_told = false;
}
