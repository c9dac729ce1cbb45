/* Journals that the durable inbox finds: whatever is in them, it is refused, or gives messages as they can
 * be.
 *
 * The first byte says what the others are: 0: a file; 1: what a whole one is damaged with, each time where
 * and with what; otherwise records, each a length and what it says, which are given what makes them whole. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "durable/journal.c"

#define HEADER_SIZE sizeof(struct header)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64], inbox[80], path[96];
static unsigned char bytes[1 << 18];
static unsigned char whole[1 << 13];
static size_t whole_size;

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

static void remove_folder(void)
{
	unlink(path);
	rmdir(folder);
}

static void put(struct journal *journal, uint64_t id, size_t recipient_count)
{
	const struct store_message message = {
		.content = {.topic = "a/b", .topic_length = 3, .payload = "payload", .payload_length = 7}, .qos = 1};
	const struct store_recipient recipients[3] = {{.consumer = 1}, {.consumer = 2}, {.consumer = 3}};

	require(journal_put(journal, &message, id, 10, recipients, recipient_count), "it cannot be put");
}

static struct journal *open_it(struct journal_found *found)
{
	struct journal *journal = NULL;
	int error = journal_open(inbox, 1, false, &journal, found);

	require(error == 0 || error == EBADMSG, "it fails");
	return error == 0 ? journal : NULL;
}

static void write_file(const unsigned char *from, size_t size)
{
	int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	require(file >= 0 && write(file, from, size) == (ssize_t)size && close(file) == 0, "no file");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct journal_found found;
	struct journal *journal;
	uint64_t id;

	(void)argc;
	(void)argv;
	snprintf(folder, sizeof folder, "/tmp/fuzz_journal.XXXXXX");
	require(mkdtemp(folder) != NULL, "no folder");
	atexit(remove_folder);
	snprintf(inbox, sizeof inbox, "%s/inbox", folder);
	snprintf(path, sizeof path, "%s-newest", inbox);
	journal = open_it(&found);
	for (id = 1; id <= 20; id++) {
		put(journal, id, id % 3 + 1);
		if (id % 4 == 0) {
			journal_done(journal, journal_find(journal, id, 1), 1);
		}
	}
	whole_size = journal->end;
	require(whole_size <= sizeof whole && pread(journal->file, whole, whole_size, 0) == (ssize_t)whole_size,
			"no whole one");
	journal_close(journal);
	unlink(path);
	return 0;
}

static size_t damage(const uint8_t *data, size_t size)
{
	memcpy(bytes, whole, whole_size);
	for (; size >= 3; data += 3, size -= 3) {
		bytes[(data[0] | (size_t)data[1] << 8) % whole_size] ^= data[2];
	}
	return size == 2 ? (data[0] | (size_t)data[1] << 8) % whole_size : whole_size;
}

static size_t make_records(const uint8_t *data, size_t size)
{
	struct header header = {.magic = MAGIC, .inbox = 1, .salt = 4711};
	struct record record;
	size_t at = sizeof(header), length;

	header.check = check_of(0, 0, (const unsigned char *)&header, offsetof(struct header, check));
	memcpy(bytes, &header, sizeof(header));
	while (size >= 2) {
		length = data[0] | (size_t)(data[1] & 7) << 8;
		data += 2;
		size -= 2;
		length = length < size ? length : size;
		memset(bytes + at, 0, sizeof(record) + length + 8);
		memcpy(bytes + at + offsetof(struct record, done_count), data, length);
		memcpy(&record, bytes + at, sizeof(record));
		record.done_count %= 4;
		record.recipient_count %= JOURNAL_RECIPIENTS + 2;
		record.salt = header.salt;
		record.length = (uint32_t)(to_eight(sizeof(record) + length));
		if (record.payload_length == 0) {
			/* As long as what is there. */
			record.payload_length = (uint32_t)(record.length - size_of(&record));
		}
		memcpy(bytes + at, &record, sizeof(record));
		record.check = check_of(record.salt, at, bytes + at + sizeof(record.check),
				record.length - sizeof(record.check));
		memcpy(bytes + at, &record, sizeof(record));
		at += record.length;
		data += length;
		size -= length;
	}
	return at;
}

static void look_at(struct journal *journal)
{
	struct journal_entry *entry;
	struct journal_message kept;
	const struct message_content *content = &kept.message.content;
	unsigned int sum = 0;
	size_t i, messages = 0;

	for (entry = journal_first(journal); entry; entry = journal_after(journal, entry)) {
		messages++;
		require(journal_read(journal, entry, &kept) == STORE_OK, "what was there is not");
		require(strlen(content->topic) == content->topic_length && content->topic_length > 0, "no topic");
		require(kept.recipient_count >= 1 && kept.recipient_count <= JOURNAL_RECIPIENTS, "no recipient");
		require(entry->left >= 1 && entry->left <= kept.recipient_count, "nobody is left");
		for (i = 0; i < content->payload_length; i++) {
			sum += ((const unsigned char *)content->payload)[i];
		}
		for (i = 0; i < content->properties_length; i++) {
			sum += ((const unsigned char *)content->properties)[i];
		}
		for (i = 0; i < kept.message.publisher_length; i++) {
			sum += ((const unsigned char *)kept.message.publisher)[i];
		}
	}
	require(messages == journal_messages(journal), "miscounted");
	require(sum < UINT32_MAX, "never");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_found found;
	struct journal *journal;
	size_t before;

	if (size == 0 || size > 8192) {
		return 0;
	}
	if (data[0] == 0) {
		write_file(data + 1, size - 1);
	} else {
		before = data[0] == 1 ? damage(data + 1, size - 1) : make_records(data + 1, size - 1);
		write_file(bytes, before);
	}
	journal = open_it(&found);
	if (journal) {
		look_at(journal);
		before = journal_messages(journal);
		put(journal, INT32_MAX, 2);
		require(journal_messages(journal) == before + 1, "not one more");
		look_at(journal);
		while (journal_first(journal)) {
			journal_done(journal, journal_first(journal), 0);
		}
		journal_close(journal);
		require(access(path, F_OK) == (found.damaged_at ? 0 : -1), "it stays, or does not");
	}
	unlink(path);
	return 0;
}
