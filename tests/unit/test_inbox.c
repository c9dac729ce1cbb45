#include "cmocka_all.h"

#include <poll.h>

#include "scarce_memory.h"
#include "session/inbox.h"
#include "shared/message.h"

static bool is_readable(const struct inbox *inbox)
{
	struct pollfd polled = {.fd = inbox->read_fd, .events = POLLIN};

	return poll(&polled, 1, 0) == 1;
}

static void test_commands_come_in_order(void **state)
{
	struct inbox inbox = {.read_fd = -1, .write_fd = -1};
	struct message *message;
	long blocks = scarce_memory_blocks();

	(void)state;
	assert_true(inbox_init(&inbox));
	assert_null(inbox_take(&inbox));
	assert_false(is_readable(&inbox));
	inbox_put(&inbox, message_listening());
	inbox_put(&inbox, NULL); /* for which there was no memory */
	inbox_put(&inbox, message_end());
	assert_true(is_readable(&inbox));
	inbox_clear_signal(&inbox);
	assert_false(is_readable(&inbox));
	message = inbox_take(&inbox);
	assert_int_equal(message->kind, MESSAGE_LISTENING);
	message_free(message);
	message = inbox_take(&inbox);
	assert_int_equal(message->kind, MESSAGE_END);
	message_free(message);
	assert_null(inbox_take(&inbox));
	inbox_put(&inbox, message_end());
	assert_true(is_readable(&inbox));
	inbox_free(&inbox); /* with what waits */
	assert_int_equal(scarce_memory_blocks(), blocks);
}

static void test_no_memory(void **state)
{
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		struct inbox inbox = {.read_fd = -1, .write_fd = -1};
		bool ok;

		scarce_memory(n, false);
		ok = inbox_init(&inbox);
		failed = scarce_memory_end();
		assert_int_equal(ok, !failed);
		inbox_free(&inbox);
	}
	assert_true(n > 2);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands_come_in_order),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
