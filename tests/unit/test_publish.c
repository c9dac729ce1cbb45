/* publish.c before a broker that only keeps record. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "broker/publish.h"
#include "shared/message.h"
#include "stub_broker.h"

static struct message_content content_of(const char *topic, const char *payload)
{
	return (struct message_content){
		.topic = topic, .topic_length = strlen(topic), .payload = payload, .payload_length = strlen(payload)};
}

static int publish_to(const char *client_id, const char *topic, const char *payload, uint8_t qos)
{
	const struct message_content content = content_of(topic, payload);

	return publish_message(client_id, &content, qos, true);
}

static void test_what_the_broker_gets(void **state)
{
	static const char properties[] = {MQTT_PROP_CONTENT_TYPE, 0, 1, 't'};
	struct message_content content = content_of("a/b", "1");
	char *type = NULL;

	(void)state;
	content.properties = properties;
	content.properties_length = sizeof(properties);
	assert_int_equal(publish_message("me", &content, 1, false), MOSQ_ERR_SUCCESS);
	assert_int_equal(publish_to(NULL, "$SYS/c", "", 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.publish_count, 2);
	assert_string_equal(stub.publishes[0].client_id, "me");
	assert_string_equal(stub.publishes[0].topic, "a/b");
	assert_string_equal(stub.publishes[0].payload, "1");
	assert_int_equal(stub.publishes[0].payload_length, 1);
	assert_int_equal(stub.publishes[0].qos, 1);
	assert_false(stub.publishes[0].retain);
	assert_non_null(mosquitto_property_read_string(stub.publishes[0].properties, MQTT_PROP_CONTENT_TYPE,
			&type, false));
	assert_string_equal(type, "t");
	free(type);
	assert_null(stub.publishes[1].client_id);
	assert_string_equal(stub.publishes[1].topic, "$SYS/c");
	assert_int_equal(stub.publishes[1].payload_length, 0);
	assert_true(stub.publishes[1].retain);
	assert_null(stub.publishes[1].properties);
	stub_broker_reset();
}

static void test_what_nobody_could_read(void **state)
{
	static const char *const topics[] = {"", "a/+", "#"};
	struct message_content content = content_of("a", "1");
	char *topic = calloc(1, 65537);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		assert_int_equal(publish_to(NULL, topics[i], "1", 0), MOSQ_ERR_INVAL);
	}
	content.topic_length = 3; /* with NULs */
	content.topic = "a\0b";
	assert_int_equal(publish_message(NULL, &content, 0, false), MOSQ_ERR_INVAL);
	assert_int_equal(publish_to(NULL, "a", "1", 3), MOSQ_ERR_INVAL);
	content = content_of("a", "1");
	content.payload_length = 268435456;
	assert_int_equal(publish_message(NULL, &content, 0, false), MOSQ_ERR_PAYLOAD_SIZE);
	content = content_of("a", "1");
	content.properties = "?";
	content.properties_length = 1;
	assert_int_equal(publish_message(NULL, &content, 0, false), MOSQ_ERR_INVAL);
	memset(topic, 't', 65536);
	assert_int_equal(publish_to(NULL, topic, "1", 0), MOSQ_ERR_INVAL);
	assert_int_equal(stub.publish_count, 0);
	topic[65535] = '\0';
	assert_int_equal(publish_to(NULL, topic, "1", 0), MOSQ_ERR_SUCCESS);
	free(topic);
	stub_broker_reset(); /* nothing of the broker's memory is lost */
}

static void test_what_the_broker_does_not_take(void **state)
{
	(void)state;
	stub.publish_rc = MOSQ_ERR_UNKNOWN;
	assert_int_equal(publish_to(NULL, "a", "1", 0), MOSQ_ERR_UNKNOWN);
	stub.publish_rc = MOSQ_ERR_SUCCESS;
	stub.no_memory = true;
	assert_int_equal(publish_to(NULL, "a", "1", 0), MOSQ_ERR_NOMEM);
	assert_int_equal(publish_to(NULL, "a", "", 0), MOSQ_ERR_SUCCESS);
	assert_int_equal(stub.publish_count, 1);
	stub_broker_reset();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_broker_gets),
		cmocka_unit_test(test_what_nobody_could_read),
		cmocka_unit_test(test_what_the_broker_does_not_take),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
