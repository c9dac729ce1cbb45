#include "durable/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* "mqtinew1". */
#define MAGIC 0x3177656e6974716dULL

/* The file gets room by so much at a time. */
#define CHUNK (1U << 20)
#define DONE_MAX 1024U
#define TICKS_MAX 10U
/* From here on messages are moved little by little, so that few are left at the end. */
#define NEARLY_FULL (JOURNAL_SIZE / 8 * 7)
/* Not worth starting anew. */
#define SMALL (1U << 20)
/* MQTT 5, 3.8.2.1.2. */
#define IDENTIFIER_MAX 268435455U

/* The salt is another each time the file starts anew: what is left of the time before is no record. */
struct header {
	uint64_t magic, inbox, salt, check;
};

/* Behind it: what was done, recipients, topic and its end, properties, publisher, payload; up to eight bytes.
 */
struct record {
	uint64_t check; /* of all that is behind it, and where it is */
	uint64_t salt;
	uint32_t length; /* of all */
	uint32_t done_count;
	uint64_t id; /* 0: there is no message */
	int64_t time;
	uint64_t size;
	uint32_t properties_length, publisher_length, payload_length;
	uint16_t topic_length;
	uint8_t recipient_count, qos;
	uint64_t retain;
};

struct done {
	uint64_t id;
	uint32_t consumer; /* 0: all */
	uint32_t unused;
};

#define RECORD_MAX (JOURNAL_RECORD_MAX + DONE_MAX * sizeof(struct done))

struct journal {
	int file;
	bool is_for_power_loss, is_damaged;
	bool is_refused; /* room on the disk, since the last tick */
	uint32_t tick;
	uint64_t inbox, salt, end, allocated;
	struct journal_entry *entries; /* in order of put; those that are gone stay until there is no room */
	size_t first, entry_count, capacity, live, hint;
	size_t done_count;
	struct done done[DONE_MAX];
	unsigned char buffer[RECORD_MAX + 8]; /* of one record */
	char path[PATH_MAX];
};

/* ---- bytes ---- */

/* Any word that is another makes it another: each step can be undone. The length is one of eight bytes. */
static uint64_t check_of(uint64_t salt, uint64_t at, const unsigned char *bytes, size_t length)
{
	uint64_t check = salt ^ at * 0x9e3779b97f4a7c15ULL, word;
	size_t i;

	for (i = 0; i < length; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		check = (check ^ word) * 0x9e3779b97f4a7c15ULL;
		check ^= check >> 29;
	}
	return check;
}

static int write_all(int file, const void *bytes, size_t size, uint64_t at)
{
	const unsigned char *from = bytes;
	ssize_t written;

	while (size > 0) {
		written = pwrite(file, from, size, (off_t)at);
		if (written <= 0) {
			return written < 0 ? errno : ENOSPC;
		}
		from += written;
		at += (uint64_t)written;
		size -= (size_t)written;
	}
	return 0;
}

static int read_all(int file, void *bytes, size_t size, uint64_t at)
{
	unsigned char *to = bytes;
	ssize_t got;

	while (size > 0) {
		got = pread(file, to, size, (off_t)at);
		if (got <= 0) {
			return got < 0 ? errno : EBADMSG;
		}
		to += got;
		at += (uint64_t)got;
		size -= (size_t)got;
	}
	return 0;
}

static size_t to_eight(size_t size)
{
	return (size + 7) / 8 * 8;
}

/* Of one that is whole, or of none. */
static size_t size_of(const struct record *record)
{
	return to_eight(sizeof(*record) + record->done_count * sizeof(struct done) +
			record->recipient_count * sizeof(struct store_recipient) + record->topic_length + 1U +
			(size_t)record->properties_length + record->publisher_length + record->payload_length);
}

/* Whether there is a record at bytes, of which there are so many, as one was written at that place. */
static bool is_record(const struct journal *journal, const unsigned char *bytes, size_t size, uint64_t at)
{
	struct record record;

	if (size < sizeof(record)) {
		return false;
	}
	memcpy(&record, bytes, sizeof(record));
	return record.salt == journal->salt && record.length >= sizeof(record) && record.length % 8 == 0 &&
			record.length <= size && record.length <= RECORD_MAX && record.done_count <= DONE_MAX &&
			record.recipient_count <= JOURNAL_RECIPIENTS && record.length == size_of(&record) &&
			record.check ==
			check_of(journal->salt, at, bytes + sizeof(record.check), record.length - sizeof(record.check));
}

static const void *part(const unsigned char **at, size_t length)
{
	const void *bytes = length > 0 ? *at : NULL;

	*at += length;
	return bytes;
}

/* What a record says that is one. Whether that can be: nobody writes anything else. */
static bool parse(const unsigned char *bytes, struct journal_message *ret)
{
	struct store_message *message = &ret->message;
	struct message_content *content = &message->content;
	struct record record;
	size_t i;

	memcpy(&record, bytes, sizeof(record));
	bytes += sizeof(record) + record.done_count * sizeof(struct done);
	*ret = (struct journal_message){.recipient_count = record.recipient_count};
	*message = (struct store_message){
		.id = record.id, .time = record.time, .qos = record.qos, .retain = record.retain != 0};
	memcpy(ret->recipients, bytes, record.recipient_count * sizeof(*ret->recipients));
	bytes += record.recipient_count * sizeof(*ret->recipients);
	content->topic = (const char *)bytes;
	content->topic_length = record.topic_length;
	bytes += record.topic_length + 1U;
	content->properties = part(&bytes, content->properties_length = record.properties_length);
	message->publisher = part(&bytes, message->publisher_length = record.publisher_length);
	content->payload = part(&bytes, content->payload_length = record.payload_length);
	for (i = 0; i < record.recipient_count; i++) {
		if (ret->recipients[i].consumer == 0 || ret->recipients[i].identifier > IDENTIFIER_MAX) {
			return false;
		}
	}
	return record.recipient_count > 0 && record.id <= INT64_MAX / 2 && content->topic_length > 0 &&
			memchr(content->topic, '\0', record.topic_length + 1U) == content->topic + record.topic_length &&
			!strpbrk(content->topic, "+#") && record.qos >= 1 && record.qos <= 2;
}

/* ---- what is to be handled ---- */

/* Those that are gone make room. */
static void compact(struct journal *journal)
{
	size_t i, count = 0;

	for (i = journal->first; i < journal->entry_count; i++) {
		if (journal->entries[i].left > 0) {
			journal->entries[count++] = journal->entries[i];
		}
	}
	journal->first = 0;
	journal->entry_count = count;
}

/* Only what a start finds may be more than there is room for. */
static bool make_room(struct journal *journal)
{
	size_t capacity = journal->capacity > 0 ? journal->capacity * 2 : JOURNAL_MESSAGES * 2;
	struct journal_entry *entries;

	if (journal->entry_count == journal->capacity && journal->live < journal->capacity / 2) {
		compact(journal);
	}
	if (journal->entry_count < journal->capacity) {
		return true;
	}
	entries = realloc(journal->entries, capacity * sizeof(*entries));
	if (!entries) {
		return false;
	}
	journal->entries = entries;
	journal->capacity = capacity;
	return true;
}

/* There is room. */
static void add(struct journal *journal, const struct record *record, uint64_t at,
		const struct store_recipient *recipients)
{
	struct journal_entry *entry = &journal->entries[journal->entry_count++];
	size_t i;

	*entry = (struct journal_entry){.id = record->id,
		.time = record->time,
		.size = record->size,
		.at = at,
		.length = record->length,
		.tick = journal->tick,
		.left = record->recipient_count};
	for (i = 0; i < record->recipient_count; i++) {
		entry->consumers[i] = recipients[i].consumer;
	}
	journal->live++;
}

bool journal_awaits(const struct journal_entry *entry, uint32_t consumer)
{
	size_t i;

	for (i = 0; i < JOURNAL_RECIPIENTS; i++) {
		if (entry->consumers[i] == consumer) {
			return true;
		}
	}
	return false;
}

struct journal_entry *journal_find(struct journal *journal, uint64_t id, uint32_t consumer)
{
	size_t count = journal->entry_count - journal->first, i, at;

	/* What is done next is mostly behind what was done last. */
	at = journal->hint >= journal->first && journal->hint < journal->entry_count ? journal->hint
																				 : journal->first;
	for (i = 0; i < count; i++, at++) {
		at = at == journal->entry_count ? journal->first : at;
		if (journal->entries[at].id == id && journal->entries[at].left > 0 &&
				(consumer == 0 || journal_awaits(&journal->entries[at], consumer))) {
			journal->hint = at;
			return &journal->entries[at];
		}
	}
	return NULL;
}

struct journal_entry *journal_next(struct journal *journal, uint32_t consumer, uint64_t after)
{
	struct journal_entry *entry, *next = NULL;
	size_t i;

	for (i = journal->first; i < journal->entry_count; i++) {
		entry = &journal->entries[i];
		if (entry->left > 0 && entry->id > after && (!next || entry->id < next->id) &&
				(consumer == 0 || journal_awaits(entry, consumer))) {
			next = entry;
		}
	}
	return next;
}

struct journal_entry *journal_first(struct journal *journal)
{
	return journal->live > 0 ? &journal->entries[journal->first] : NULL;
}

struct journal_entry *journal_after(struct journal *journal, struct journal_entry *entry)
{
	const struct journal_entry *end = journal->entries + journal->entry_count;

	do {
		entry++;
	} while (entry < end && entry->left == 0);
	return entry < end ? entry : NULL;
}

size_t journal_messages(const struct journal *journal)
{
	return journal->live;
}

/* Without a word about it. */
static void take_away(struct journal *journal, struct journal_entry *entry, uint32_t consumer)
{
	size_t i;

	for (i = 0; i < JOURNAL_RECIPIENTS; i++) {
		if (entry->consumers[i] != 0 && (consumer == 0 || entry->consumers[i] == consumer)) {
			entry->consumers[i] = 0;
			entry->left--;
		}
	}
	journal->live -= entry->left == 0;
	while (journal->first < journal->entry_count && journal->entries[journal->first].left == 0) {
		journal->first++;
	}
	if (journal->live == 0) {
		journal->first = journal->entry_count = 0;
	}
}

/* ---- records ---- */

/* Each sync of a record in room that was never written would also write that it is no longer so. */
static bool fill(struct journal *journal, uint64_t end)
{
	static const unsigned char zeros[65536];
	uint64_t at = journal->allocated, size;
	int error = 0;

	for (; error == 0 && at < end; at += size) {
		size = end - at < sizeof(zeros) ? end - at : sizeof(zeros);
		error = write_all(journal->file, zeros, (size_t)size, at);
	}
	return error == 0;
}

/* Room on the disk, ahead of need. A file system that cannot promise any is as good as it is. */
static bool allocate(struct journal *journal, uint64_t end)
{
	uint64_t chunk;

	if (end <= journal->allocated) {
		return true;
	}
	/* To ask a disk that is full takes long. */
	if (journal->is_refused) {
		return false;
	}
	journal->is_refused = true;
	chunk = (end + CHUNK - 1) / CHUNK * CHUNK;
	if (fallocate(journal->file, 0, 0, (off_t)chunk) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
		return false;
	}
	if (journal->is_for_power_loss && !fill(journal, chunk)) {
		return false;
	}
	journal->allocated = chunk;
	journal->is_refused = false;
	return true;
}

static bool append(struct journal *journal, struct record *record, size_t length)
{
	static const uint64_t nothing;

	memset(journal->buffer + length, 0, to_eight(length) - length);
	record->salt = journal->salt;
	record->length = (uint32_t)to_eight(length);
	if (journal->end + record->length > JOURNAL_SIZE || !allocate(journal, journal->end + record->length)) {
		return false;
	}
	memcpy(journal->buffer, record, sizeof(*record));
	record->check = check_of(journal->salt, journal->end, journal->buffer + sizeof(record->check),
			record->length - sizeof(record->check));
	memcpy(journal->buffer, record, sizeof(record->check));
	if (write_all(journal->file, journal->buffer, record->length, journal->end) != 0 ||
			(journal->is_for_power_loss && fdatasync(journal->file) != 0)) {
		/* Whatever of it is there is not to be found, if that can be. */
		(void)!pwrite(journal->file, &nothing, sizeof(nothing), (off_t)journal->end);
		return false;
	}
	journal->end += record->length;
	journal->done_count = 0;
	return true;
}

static void copy(unsigned char **to, const void *bytes, size_t length)
{
	if (length > 0) {
		memcpy(*to, bytes, length);
	}
	*to += length;
}

/* Behind where the record goes. */
static unsigned char *begin_record(struct journal *journal)
{
	unsigned char *to = journal->buffer + sizeof(struct record);

	copy(&to, journal->done, journal->done_count * sizeof(*journal->done));
	return to;
}

bool journal_write_done(struct journal *journal)
{
	struct record record = {.done_count = (uint32_t)journal->done_count};
	unsigned char *to;

	if (journal->done_count == 0) {
		return true;
	}
	to = begin_record(journal);
	*to++ = '\0';
	return append(journal, &record, (size_t)(to - journal->buffer));
}

static void note_done(struct journal *journal, uint64_t id, uint32_t consumer)
{
	if (journal->done_count == DONE_MAX && !journal_write_done(journal)) {
		/* It comes again if the process dies now. */
		journal->done_count = 0;
	}
	journal->done[journal->done_count++] = (struct done){.id = id, .consumer = consumer};
}

void journal_done(struct journal *journal, struct journal_entry *entry, uint32_t consumer)
{
	note_done(journal, entry->id, consumer);
	take_away(journal, entry, consumer);
}

bool journal_takes(const struct store_message *message, size_t recipient_count)
{
	const struct message_content *content = &message->content;

	return recipient_count > 0 && recipient_count <= JOURNAL_RECIPIENTS && message->qos >= 1 &&
			message->qos <= 2 && content->topic_length > 0 && content->topic_length <= UINT16_MAX &&
			content->payload_length < JOURNAL_RECORD_MAX && content->properties_length < JOURNAL_RECORD_MAX &&
			message->publisher_length < JOURNAL_RECORD_MAX &&
			sizeof(struct record) + recipient_count * sizeof(struct store_recipient) + content->topic_length +
					1U + content->payload_length + content->properties_length + message->publisher_length <=
			JOURNAL_RECORD_MAX;
}

bool journal_put(struct journal *journal, const struct store_message *message, uint64_t id, uint64_t size,
		const struct store_recipient *recipients, size_t recipient_count)
{
	const struct message_content *content = &message->content;
	struct record record = {.done_count = (uint32_t)journal->done_count,
		.id = id,
		.time = message->time,
		.size = size,
		.properties_length = (uint32_t)content->properties_length,
		.publisher_length = (uint32_t)message->publisher_length,
		.payload_length = (uint32_t)content->payload_length,
		.topic_length = (uint16_t)content->topic_length,
		.recipient_count = (uint8_t)recipient_count,
		.qos = message->qos,
		.retain = message->retain};
	uint64_t at = journal->end;
	unsigned char *to;
	size_t i;

	if (journal->live >= 2 * (size_t)JOURNAL_MESSAGES || !make_room(journal)) {
		return false;
	}
	to = begin_record(journal);
	for (i = 0; i < recipient_count; i++) {
		/* Not as a whole: between its members are bytes that nobody has set. */
		memset(to, 0, sizeof(*recipients));
		((struct store_recipient *)(void *)to)->consumer = recipients[i].consumer;
		((struct store_recipient *)(void *)to)->identifier = recipients[i].identifier;
		((struct store_recipient *)(void *)to)->options = recipients[i].options;
		to += sizeof(*recipients);
	}
	copy(&to, content->topic, content->topic_length);
	*to++ = '\0';
	copy(&to, content->properties, content->properties_length);
	copy(&to, message->publisher, message->publisher_length);
	copy(&to, content->payload, content->payload_length);
	if (!append(journal, &record, (size_t)(to - journal->buffer))) {
		return false;
	}
	add(journal, &record, at, recipients);
	return true;
}

enum store_result journal_read(struct journal *journal, const struct journal_entry *entry,
		struct journal_message *ret_message)
{
	int error = read_all(journal->file, journal->buffer, entry->length, entry->at);

	if (error != 0) {
		return error == EBADMSG ? STORE_CORRUPT : STORE_FAILED;
	}
	return is_record(journal, journal->buffer, entry->length, entry->at) &&
					parse(journal->buffer, ret_message) && ret_message->message.id == entry->id
			? STORE_OK
			: STORE_CORRUPT;
}

/* ---- its rounds ---- */

/* Of an empty one. The header is on the disk before what is behind it. If that cannot be, nobody knows which
 * one is there: nothing is appended until it can. */
static int start_round(struct journal *journal)
{
	struct header header = {.magic = MAGIC, .inbox = journal->inbox, .salt = journal->salt + 1};
	int error;

	header.check = check_of(0, 0, (const unsigned char *)&header, offsetof(struct header, check));
	error = write_all(journal->file, &header, sizeof(header), 0);
	if (error == 0 && journal->is_for_power_loss && fdatasync(journal->file) != 0) {
		error = errno;
	}
	journal->salt += error == 0;
	journal->end = error == 0 ? sizeof(header) : JOURNAL_SIZE;
	journal->done_count = 0;
	return error;
}

void journal_restart(struct journal *journal, bool at_once)
{
	/* If it cannot be, the next one that asks tries again. */
	if (journal->live == 0 && journal->end > (at_once ? 0 : SMALL) && !journal->is_damaged) {
		(void)start_round(journal);
	}
}

size_t journal_surplus(const struct journal *journal)
{
	if (journal->end > JOURNAL_SIZE - RECORD_MAX) {
		return journal->live;
	}
	if (journal->live >= (journal->end > NEARLY_FULL ? JOURNAL_PORTION : JOURNAL_MESSAGES)) {
		return JOURNAL_PORTION;
	}
	return 0;
}

size_t journal_tick(struct journal *journal)
{
	size_t count = 0, i;

	(void)journal_write_done(journal);
	journal->is_refused = false;
	journal->tick++;
	for (i = journal->first; i < journal->entry_count && count < JOURNAL_PORTION; i++) {
		if (journal->tick - journal->entries[i].tick < TICKS_MAX) {
			break;
		}
		count += journal->entries[i].left > 0;
	}
	return count;
}

/* ---- a start ---- */

static bool take_record(struct journal *journal, const unsigned char *bytes, uint64_t at,
		struct journal_found *found)
{
	struct journal_message message;
	struct journal_entry *entry;
	struct record record;
	struct done done;
	size_t i;

	memcpy(&record, bytes, sizeof(record));
	for (i = 0; i < record.done_count; i++) {
		memcpy(&done, bytes + sizeof(record) + i * sizeof(done), sizeof(done));
		entry = journal_find(journal, done.id, done.consumer);
		if (entry) {
			take_away(journal, entry, done.consumer);
		}
	}
	if (record.id == 0) {
		return true;
	}
	if (!parse(bytes, &message)) {
		found->damaged_at = found->damaged_at ? found->damaged_at : at;
		return true;
	}
	if (!make_room(journal)) {
		return false;
	}
	add(journal, &record, at, message.recipients);
	found->newest = record.id > found->newest ? record.id : found->newest;
	return true;
}

/* What is behind damage counts, too. */
static int take_records(struct journal *journal, const unsigned char *bytes, size_t size,
		struct journal_found *found)
{
	uint64_t at = sizeof(struct header);
	uint32_t length;

	journal->end = at;
	while (at < size) {
		if (!is_record(journal, bytes + at, size - at, at)) {
			at += 8;
			continue;
		}
		if (at > journal->end && !found->damaged_at) {
			found->damaged_at = journal->end;
		}
		if (!take_record(journal, bytes + at, at, found)) {
			return ENOMEM;
		}
		memcpy(&length, bytes + at + offsetof(struct record, length), sizeof(length));
		at += length;
		journal->end = at;
	}
	return 0;
}

/* A process may die, or the machine, between the making of the file and its first byte. */
static bool is_blank(const unsigned char *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static int take_bytes(struct journal *journal, const unsigned char *bytes, size_t size,
		struct journal_found *found)
{
	struct header header;

	if (is_blank(bytes, size)) {
		return getrandom(&journal->salt, sizeof(journal->salt), 0) == sizeof(journal->salt)
				? start_round(journal)
				: errno;
	}
	if (size < sizeof(header)) {
		return EBADMSG;
	}
	memcpy(&header, bytes, sizeof(header));
	if (header.magic != MAGIC || header.inbox != journal->inbox ||
			header.check != check_of(0, 0, bytes, offsetof(struct header, check))) {
		return EBADMSG;
	}
	journal->salt = header.salt;
	return take_records(journal, bytes, size, found);
}

static int take_file(struct journal *journal, struct journal_found *found)
{
	struct stat status;
	unsigned char *bytes;
	size_t size;
	int error;

	if (fstat(journal->file, &status) != 0) {
		return errno;
	}
	if (!S_ISREG(status.st_mode)) {
		return EBADMSG;
	}
	size = status.st_size < (off_t)JOURNAL_SIZE ? (size_t)status.st_size : JOURNAL_SIZE;
	journal->allocated = size > sizeof(struct header) ? size : sizeof(struct header);
	bytes = malloc(size + 1);
	if (!bytes) {
		return ENOMEM;
	}
	error = read_all(journal->file, bytes, size, 0);
	if (error == 0) {
		error = take_bytes(journal, bytes, size, found);
	}
	free(bytes);
	return error;
}

/* That the file is there is in its folder. */
static int sync_folder(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int file, error = 0;

	(void)snprintf(folder, sizeof(folder), "%.*s/", slash ? (int)(slash - path) : 0, path);
	file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0 || fsync(file) != 0) {
		error = errno;
	}
	if (file >= 0) {
		(void)close(file);
	}
	return error;
}

int journal_open(const char *path, uint64_t inbox, bool for_power_loss, struct journal **ret_journal,
		struct journal_found *ret_found)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int error;

	*ret_found = (struct journal_found){0};
	if (!journal || !make_room(journal)) {
		free(journal);
		return ENOMEM;
	}
	journal->inbox = inbox;
	journal->is_for_power_loss = for_power_loss;
	(void)snprintf(journal->path, sizeof(journal->path), "%s-newest", path);
	journal->file =
			open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR);
	error = journal->file < 0 ? errno : take_file(journal, ret_found);
	if (error == 0 && for_power_loss) {
		error = fdatasync(journal->file) != 0 ? errno : sync_folder(journal->path);
	}
	journal->is_damaged = error != 0 || ret_found->damaged_at != 0;
	if (error != 0) {
		journal_close(journal);
		return error;
	}
	/* Later is soon enough, where there is no room now. */
	(void)allocate(journal, CHUNK);
	*ret_journal = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal) {
		return;
	}
	if (journal->file >= 0) {
		(void)journal_write_done(journal);
		if (journal->live == 0 && !journal->is_damaged) {
			(void)unlink(journal->path);
		}
		(void)close(journal->file);
	}
	free(journal->entries);
	free(journal);
}
