/* Hash table of things that embed a struct table_entry.
 *
 * Chained, so that an entry never moves and removing one needs no marker. Grows when it is full and shrinks
 * when it is an eighth full; where memory for that runs out it stays as it is, which is slower and still
 * right. Not thread-safe. Start from `struct table t = {0}`; an empty table owns no memory. */
#ifndef MQTTASGI_TABLE_H
#define MQTTASGI_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_entry {
	struct table_entry *next;
	uint64_t hash; /* good in all its bits: the table takes the low ones */
};

struct table {
	struct table_entry **buckets;
	size_t bucket_count; /* 0 or a power of two */
	size_t count;
};

/* First entry of the chain where hash would be; the caller follows `next` and compares. */
static inline struct table_entry *table_chain(const struct table *table, uint64_t hash)
{
	return table->bucket_count > 0 ? table->buckets[hash & (table->bucket_count - 1)] : NULL;
}

/* Adds entry, whose hash is set and which is in no table. MOSQ_ERR_NOMEM: only for the first entry. */
int table_insert(struct table *table, struct table_entry *entry) __attribute__((warn_unused_result));

/* Takes out entry, which must be in the table; it still belongs to the caller. */
void table_remove(struct table *table, struct table_entry *entry);

#endif
