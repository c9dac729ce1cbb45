/* Files that the durable inbox finds: whatever is in them, it is refused, or gives messages as they can be,
 * each once.
 *
 * The first byte says what the others are: 0: rows for a whole file, values of any kind in any column; 1:
 * what a whole file, and its log, is damaged with; otherwise a file. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "durable/store.h"

#define READS_MAX 5000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct file {
	char path[80];
	uint8_t *bytes; /* of one that is whole */
	size_t size;
};

static char folder[64];
static struct file inbox, inbox_log;

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* ---- files ---- */

static void remove_files(void)
{
	char journal[96], newest[96];

	snprintf(journal, sizeof journal, "%s-journal", inbox.path);
	unlink(inbox.path);
	unlink(inbox_log.path);
	unlink(journal);
	snprintf(newest, sizeof newest, "%s-newest", inbox.path);
	unlink(newest);
}

static void remove_folder(void)
{
	remove_files();
	rmdir(folder);
}

static void write_file(const struct file *file, const uint8_t *bytes, size_t size)
{
	int descriptor = open(file->path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	require(descriptor >= 0 && write(descriptor, bytes, size) == (ssize_t)size && close(descriptor) == 0,
			"no file");
}

static void read_file(struct file *file)
{
	FILE *in = fopen(file->path, "r");

	require(in && fseek(in, 0, SEEK_END) == 0, "no file");
	file->size = (size_t)ftell(in);
	rewind(in);
	file->bytes = malloc(file->size);
	require(file->bytes && fread(file->bytes, 1, file->size, in) == file->size, "no file");
	fclose(in);
}

static struct store *open_store(void)
{
	char reason[1000] = "";
	struct store *store = store_open(inbox.path, STORE_SYNC_PROCESS, 1 << 20, reason, sizeof reason);

	require(store || (strstr(reason, inbox.path) && reason[strlen(reason) - 1] == '.'),
			"refused without a word");
	return store;
}

/* Two consumers and some messages, of which one is for both and one is long; some only in the log. */
static void make_whole(void)
{
	static char payload[6000];
	struct store_message message = {.content = {.topic = "a/b", .topic_length = 3, .payload = payload},
		.qos = 1,
		.publisher = "me",
		.publisher_length = 2};
	struct store_recipient recipients[2] = {{.options = 1}, {.options = 2, .identifier = 7}};
	struct store *store = open_store();
	uint64_t id;
	uint32_t tries;
	int i;

	require(store != NULL, "no store");
	require(store_consumer(store, "a", 5, &recipients[0].consumer) == STORE_OK, "no consumer");
	require(store_consumer(store, "b", 5, &recipients[1].consumer) == STORE_OK, "no consumer");
	for (i = 0; i < 12; i++) {
		message.content.payload_length = i == 6 ? sizeof payload : (size_t)i;
		require(store_put(store, &message, &recipients[i % 2], i == 4 ? 2 : 1, &id) == STORE_OK,
				"no message");
		/* So it is where others are that have been there for long. */
		require(store_failed(store, id, recipients[i % 2].consumer, &tries) == STORE_OK, "no try");
		if (i == 8) {
			/* The second that nothing happens in takes the log into the file. */
			require(store_tick(store) == STORE_OK && store_tick(store) == STORE_OK, "no tick");
		}
	}
	/* As a process leaves them that is killed. */
	read_file(&inbox);
	read_file(&inbox_log);
	store_close(store);
}

/* ---- what is made of the input ---- */

struct input {
	const uint8_t *at, *end;
};

static unsigned int take_byte(struct input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

static size_t take_number(struct input *input)
{
	size_t high = take_byte(input) << 8;

	return high | take_byte(input);
}

static void bind_value(sqlite3_stmt *statement, int column, struct input *input)
{
	unsigned int kind = take_byte(input);
	size_t length = kind >> 3, left = (size_t)(input->end - input->at);
	const char *bytes = (const char *)input->at;
	sqlite3_int64 number = 0;

	length = length < left ? length : left;
	input->at += length;
	memcpy(&number, bytes, length < sizeof number ? length : sizeof number);
	switch (kind % 8) {
	case 0:
		sqlite3_bind_null(statement, column);
		return;
	case 1:
		sqlite3_bind_double(statement, column, (double)number / 3);
		return;
	case 2:
		sqlite3_bind_blob(statement, column, bytes, (int)length, SQLITE_TRANSIENT);
		return;
	case 3:
	case 4:
		sqlite3_bind_text(statement, column, bytes, (int)length, SQLITE_TRANSIENT);
		return;
	case 5:
		/* Longer than a topic can be, or an integer is. */
		sqlite3_bind_zeroblob(statement, column, (int)length * 5000);
		return;
	default:
		sqlite3_bind_int64(statement, column, number);
	}
}

static void change_rows(struct input *input)
{
	static const char *const changes[] = {"INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		"INSERT OR REPLACE INTO recipient VALUES (?, ?, ?, ?, ?)",
		"INSERT OR REPLACE INTO several VALUES (?, ?)", "INSERT OR REPLACE INTO consumer VALUES (?, ?, ?)",
		"UPDATE message SET topic = ?", "UPDATE message SET qos = ?",
		"UPDATE recipient SET options = ?, identifier = ?, tries = ? WHERE message = ?",
		"UPDATE used SET id = ?"};
	sqlite3 *database;
	sqlite3_stmt *statement;
	int i;

	require(sqlite3_open(inbox.path, &database) == SQLITE_OK, "no database");
	while (input->at < input->end) {
		const char *sql = changes[take_byte(input) % (sizeof changes / sizeof *changes)];

		require(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK, "no statement");
		for (i = 1; i <= sqlite3_bind_parameter_count(statement); i++) {
			bind_value(statement, i, input);
		}
		/* What the tables do not take is not there. */
		sqlite3_step(statement);
		sqlite3_finalize(statement);
	}
	require(sqlite3_close(database) == SQLITE_OK, "open");
}

/* Bytes in some places, and ends that are cut off. */
static void damage(struct input *input)
{
	struct file *const files[] = {&inbox, &inbox_log};
	unsigned int cuts = take_byte(input);
	size_t i;

	for (i = 0; i < 2; i++) {
		struct file *file = files[i];
		size_t size = cuts & (1U << i) ? take_number(input) * 16 % file->size : file->size;
		uint8_t *bytes = malloc(file->size);
		unsigned int places = take_byte(input);

		require(bytes != NULL, "no memory");
		memcpy(bytes, file->bytes, file->size);
		while (places-- > 0 && input->at < input->end) {
			/* Pages are largely empty: what is at their beginning matters most. */
			size_t page = take_byte(input) * 4096U, place = take_number(input);

			bytes[(page + (place & 0x8000 ? place % 128 : place % 4096)) % file->size] =
					(uint8_t)take_byte(input);
		}
		write_file(file, bytes, size);
		free(bytes);
	}
	if (cuts & 4) {
		unlink(inbox_log.path);
	}
}

/* ---- what is required of the store ---- */

static void require_possible(const struct store_delivery *delivery, uint32_t consumer)
{
	const struct message_content *content = &delivery->message.content;
	const uint8_t *bytes[] = {content->properties, delivery->message.publisher, content->payload};
	const size_t lengths[] = {
		content->properties_length, delivery->message.publisher_length, content->payload_length};
	volatile uint8_t sum = 0;
	size_t i, j;

	require(content->topic && content->topic_length > 0 && content->topic_length <= 65535,
			"a topic of no length");
	require(strlen(content->topic) == content->topic_length, "a topic that does not end");
	require(!strpbrk(content->topic, "+#"), "a filter");
	require(delivery->message.qos == 1 || delivery->message.qos == 2, "a QoS that is none");
	require(delivery->recipient.consumer == consumer, "for somebody else");
	require(delivery->recipient.identifier <= 268435455, "an identifier that is none");
	for (i = 0; i < 3; i++) {
		require(bytes[i] || lengths[i] == 0, "bytes that are not there");
		/* The sanitizer sees those that are not there for another reason. */
		for (j = 0; j < lengths[i]; j++) {
			sum = (uint8_t)(sum + bytes[i][j]);
		}
	}
}

static void read_all(struct store *store, uint32_t consumer)
{
	struct store_delivery delivery = {0};
	uint64_t after = 0;
	enum store_result result;
	uint32_t tries;
	int i;

	for (i = 0; i < READS_MAX; i++) {
		result = store_next(store, consumer, after, &delivery);
		if (result != STORE_OK && (result != STORE_CORRUPT || delivery.message.id == 0)) {
			break;
		}
		require(delivery.message.id > after, "again");
		after = delivery.message.id;
		if (result == STORE_OK) {
			require_possible(&delivery, consumer);
		}
		if (i % 3 == 0) {
			(void)!store_failed(store, after, consumer, &tries);
		}
		if (i % 2 == 0) {
			(void)!store_done(store, after, consumer);
		}
	}
	require(i < READS_MAX, "without end");
}

static bool take(void *userdata, const char *consumer, const struct store_delivery *delivery)
{
	require(consumer != NULL, "nobody");
	require_possible(delivery, delivery->recipient.consumer);
	++*(int *)userdata;
	return true;
}

static void use(struct store *store)
{
	const struct store_message message = {.content = {.topic = "t", .topic_length = 1}, .qos = 2};
	struct store_recipient recipient = {.consumer = 1};
	struct store_delivery delivery;
	uint64_t id = 0;
	uint32_t consumer;
	size_t count = 1;
	int taken = 0, i;

	(void)!store_consumer(store, "a", 10, &consumer);
	for (consumer = 0; consumer < 4; consumer++) {
		read_all(store, consumer);
	}
	if (store_put(store, &message, &recipient, 1, &id) == STORE_OK &&
			store_next(store, 1, id - 1, &delivery) == STORE_OK) {
		require(delivery.message.id == id && delivery.message.qos == 2, "not what was put");
	}
	(void)!store_tick(store);
	(void)!store_tick(store);
	(void)store_figures(store);
	for (i = 0; count > 0 && i < READS_MAX; i++) {
		if (store_expire(store, 8, 3, take, &taken, &count) != STORE_OK) {
			break;
		}
	}
	require(i < READS_MAX, "expires without end");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(folder, sizeof folder, "%s/fuzz_store.XXXXXX",
			access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	require(mkdtemp(folder) != NULL, "no folder");
	snprintf(inbox.path, sizeof inbox.path, "%s/inbox", folder);
	snprintf(inbox_log.path, sizeof inbox_log.path, "%s-wal", inbox.path);
	atexit(remove_folder);
	make_whole();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {.at = data, .end = data + size};
	unsigned int kind = take_byte(&input);
	struct store *store;
	int i;

	remove_files();
	if (kind == 0) {
		write_file(&inbox, inbox.bytes, inbox.size);
		write_file(&inbox_log, inbox_log.bytes, inbox_log.size);
		change_rows(&input);
	} else if (kind == 1) {
		damage(&input);
	} else {
		write_file(&inbox, input.at, (size_t)(input.end - input.at));
	}
	/* What the first has made of it is for the second. */
	for (i = 0; i < 2; i++) {
		store = open_store();
		if (store) {
			use(store);
		}
		store_close(store);
	}
	remove_files();
	return 0;
}
