#include "shared/mosquitto_api.h"
#include "shared/table.h"

#include <stdlib.h>

#define BUCKETS_MIN 4

static int resize(struct table *table, size_t bucket_count)
{
	struct table_entry **buckets = calloc(bucket_count, sizeof *buckets);
	struct table_entry *entry, *next, **bucket;
	size_t i;

	if (!buckets) {
		return MOSQ_ERR_NOMEM;
	}
	for (i = 0; i < table->bucket_count; i++) {
		for (entry = table->buckets[i]; entry; entry = next) {
			next = entry->next;
			bucket = &buckets[entry->hash & (bucket_count - 1)];
			entry->next = *bucket;
			*bucket = entry;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->bucket_count = bucket_count;
	return MOSQ_ERR_SUCCESS;
}

int table_insert(struct table *table, struct table_entry *entry)
{
	struct table_entry **bucket;

	if (table->count >= table->bucket_count) { /* more where memory to grow ran out before */
		int rc = resize(table, table->bucket_count > 0 ? table->bucket_count * 2 : BUCKETS_MIN);

		if (rc != MOSQ_ERR_SUCCESS && table->bucket_count == 0) {
			return rc;
		}
	}
	bucket = &table->buckets[entry->hash & (table->bucket_count - 1)];
	entry->next = *bucket;
	*bucket = entry;
	table->count++;
	return MOSQ_ERR_SUCCESS;
}

void table_remove(struct table *table, struct table_entry *entry)
{
	struct table_entry **link = &table->buckets[entry->hash & (table->bucket_count - 1)];

	while (*link != entry) {
		link = &(*link)->next;
	}
	*link = entry->next;
	entry->next = NULL;
	table->count--;
	if (table->count == 0) {
		free(table->buckets);
		*table = (struct table){0};
	} else if (table->bucket_count > BUCKETS_MIN && table->count <= table->bucket_count / 8) {
		(void)resize(table, table->bucket_count / 2); /* too little memory to need less: keep it */
	}
}
