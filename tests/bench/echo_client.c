/* The contender to measure against: a C client on libmosquitto that publishes whatever it hears.
 *
 * Usage: echo_client PORT TOPIC ANSWER QOS. Runs until it is killed or the broker goes away. */
#include <mosquitto.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct echo {
	const char *topic, *answer;
	int qos;
};

static void on_connect(struct mosquitto *client, void *userdata, int code)
{
	const struct echo *echo = userdata;

	if (code != 0 || mosquitto_subscribe(client, NULL, echo->topic, echo->qos) != MOSQ_ERR_SUCCESS) {
		fprintf(stderr, "echo_client: cannot subscribe to %s: %s\n", echo->topic,
				mosquitto_connack_string(code));
		mosquitto_disconnect(client);
	}
}

static void on_message(struct mosquitto *client, void *userdata, const struct mosquitto_message *message)
{
	const struct echo *echo = userdata;
	int error = mosquitto_publish(client, NULL, echo->answer, message->payloadlen, message->payload,
			echo->qos, false);

	if (error != MOSQ_ERR_SUCCESS) {
		fprintf(stderr, "echo_client: cannot publish to %s: %s\n", echo->answer, mosquitto_strerror(error));
		mosquitto_disconnect(client);
	}
}

int main(int argc, char **argv)
{
	struct mosquitto *client = NULL;
	struct echo echo;
	int error = MOSQ_ERR_NOMEM;

	if (argc != 5) {
		fputs("Usage: echo_client PORT TOPIC ANSWER QOS\n", stderr);
		return 1;
	}
	echo = (struct echo){.topic = argv[2], .answer = argv[3], .qos = atoi(argv[4])};
	mosquitto_lib_init();
	client = mosquitto_new("bench-echo", true, &echo);
	if (client != NULL) {
		mosquitto_connect_callback_set(client, on_connect);
		mosquitto_message_callback_set(client, on_message);
		/* Without a bound, as the broker is run: the default of 20 would be measured instead of the
		 * client. */
		mosquitto_max_inflight_messages_set(client, 0);
		mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
		error = mosquitto_connect(client, "127.0.0.1", atoi(argv[1]), 60);
	}
	if (error == MOSQ_ERR_SUCCESS) {
		error = mosquitto_loop_forever(client, -1, 1);
	}
	if (error != MOSQ_ERR_SUCCESS) {
		fprintf(stderr, "echo_client: %s\n", mosquitto_strerror(error));
	}
	mosquitto_destroy(client);
	mosquitto_lib_cleanup();
	return error == MOSQ_ERR_SUCCESS ? 0 : 1;
}
