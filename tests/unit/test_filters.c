#include "cmocka_all.h"

#include <stdio.h>

#include "scarce_memory.h"
#include "session/connection.h"
#include "session/filters.h"

static struct filters filters;
static long blocks;

static int set_up(void **state)
{
	(void)state;
	blocks = scarce_memory_blocks();
	assert_true(filters_init(&filters));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	filters_free(&filters);
	assert_int_equal(scarce_memory_blocks(), blocks);
	return 0;
}

static struct filter *add(const char *name, uint8_t qos)
{
	struct filter *filter = filters_add(&filters, name);

	assert_non_null(filter);
	filter->subscription.asked_qos = qos;
	assert_true(filters_enter_force(&filters, filter));
	return filter;
}

static void count(void *userdata, struct filter *filter)
{
	assert_non_null(filter);
	++*(unsigned int *)userdata;
}

static void test_found_by_name_and_by_id(void **state)
{
	unsigned int found = 0, i;
	struct filter *filter;
	char name[16];

	(void)state;
	for (i = 0; i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "a/%u", i);
		filter = filters_add(&filters, name);
		assert_in_range(filter->id, 1, CONNECTION_SUBSCRIPTION_MAX);
		assert_ptr_equal(filters_find(&filters, name), filter);
		assert_ptr_equal(filters_of_id(&filters, filter->id), filter);
	}
	filters_for_each(&filters, count, &found);
	assert_int_equal(found, 1000);
	filter = filters_find(&filters, "a/7");
	i = filter->id;
	filters_remove(&filters, filter);
	assert_null(filters_find(&filters, "a/7"));
	assert_null(filters_of_id(&filters, i));
	assert_int_equal(filters_add(&filters, "a/7")->id, i); /* as in another process */
	assert_false(filters_find(&filters, "a/7")->is_shared);
	assert_true(filters_add(&filters, "$share/g/a")->is_shared);
}

static void test_one_copy_decides(void **state)
{
	struct filter *low = add("a/#", 0), *high = add("a/+", 2), *younger = add("+/b", 2), *group;

	(void)state;
	assert_false(filters_decide(&filters, "a/b", low->id));
	assert_true(filters_decide(&filters, "a/b", high->id));
	assert_false(filters_decide(&filters, "a/b", younger->id));
	assert_true(filters_decide(&filters, "a", low->id));
	assert_false(filters_decide(&filters, "c", low->id));
	/* Again in force does not make it younger; out of force it does not count. */
	assert_true(filters_enter_force(&filters, high));
	assert_true(filters_decide(&filters, "a/b", high->id));
	filters_leave_force(&filters, high);
	filters_leave_force(&filters, high);
	assert_true(filters_decide(&filters, "a/b", younger->id));
	assert_true(filters_enter_force(&filters, high));
	assert_true(filters_decide(&filters, "a/b", younger->id));
	group = add("$share/g/a/b", 2);
	assert_false(filters_decide(&filters, "a/b", group->id));
}

static void test_who_waits(void **state)
{
	struct filter *filter = filters_add(&filters, "a");
	struct waiter waiter = {.who = {.consumer = 1}};
	unsigned int i;

	(void)state;
	assert_false(filter_is_served(filter));
	filter->consumers[2] = 1;
	assert_true(filter_is_served(filter));
	assert_null(waiters_find(&filter->waiting, 1));
	for (i = 0; i < 10; i++) {
		waiter.who.consumer = i;
		assert_true(waiters_add(&filter->waiting, &waiter));
	}
	assert_ptr_equal(waiters_find(&filter->waiting, 3), &filter->waiting.items[3]);
	waiter.who.consumer = 3;
	assert_true(waiters_add(&filter->waiting, &waiter)); /* it subscribed again */
	assert_ptr_equal(waiters_find(&filter->waiting, 3), &filter->waiting.items[10]);
	filter->waiting.items[10].gone = true;
	assert_ptr_equal(waiters_find(&filter->waiting, 3), &filter->waiting.items[3]);
}

static void test_no_memory(void **state)
{
	const struct waiter waiter = {.who = {.consumer = 1}};
	unsigned long n;
	bool failed = true;

	(void)state;
	for (n = 1; failed; n++) {
		struct filter *filter;
		bool ok = false;

		scarce_memory(n, false);
		filter = filters_add(&filters, "a");
		if (filter) {
			ok = filters_enter_force(&filters, filter) && waiters_add(&filter->waiting, &waiter);
		}
		failed = scarce_memory_end();
		assert_int_equal(ok, !failed);
		assert_ptr_equal(filters_find(&filters, "a"), filter);
		if (filter) {
			assert_ptr_equal(filters_of_id(&filters, filter->id), filter);
			filters_remove(&filters, filter);
		}
	}
	assert_true(n > 4);
}

#define filters_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		filters_test(test_found_by_name_and_by_id),
		filters_test(test_one_copy_decides),
		filters_test(test_who_waits),
		filters_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
