/* The consumers of the durable inbox: by their names, which stay the same, and by their handles, which do
 * not; and how far each has got. Broker thread only. */
#ifndef MQTTASGI_READERS_H
#define MQTTASGI_READERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "shared/table.h"

/* A consumer that has come by a name. */
struct reader_handle {
	struct table_entry entry; /* its hash is the handle */
	struct reader *reader;
	/* What was handed over, and is neither handled nor dead; the bytes are about right. */
	size_t in_hand, bytes_in_hand;
	bool is_gone;
};

struct reader {
	struct table_entry entry; /* by name */
	char *name;
	uint32_t number;               /* store_consumer(); 0: not known yet */
	struct reader_handle *current; /* who gets what is read; NULL: nobody is there */
	size_t handles;                /* consumers that have had the name and are not done with what they have */
	bool keeps;                    /* one that is gone has subscriptions yet */

	bool is_behind;
	bool is_listed; /* among those to be read for */
	struct reader *next_listed;
	struct reader *next; /* of all */
	time_t gone_at;      /* where nobody is there */

	uint64_t stored;   /* the last message that was stored for it */
	uint64_t position; /* the last that was handed over */
	uint64_t came_at;  /* the ids of what was stored before the consumer came are not above this */
	/* What its predecessor got is not above predecessors; where that ended without it, what is left of it
	 * comes again, from lost on. */
	uint64_t predecessors, lost;
	bool has_lost;
	bool has_suspect;        /* the next from an earlier life may be what that died of */
	uint64_t suspect;        /* that one: a try is counted already; 0: none is */
	unsigned int careful;    /* how many more are to come one by one */
	unsigned int unreadable; /* how often the next could not be read */
};

struct readers {
	struct table by_name, by_handle;
	struct reader *all;
	struct reader *first_listed, *last_listed; /* those that are behind, and there */
};

/* Frees everything; readers may be all zeros, and is again. */
void readers_clear(struct readers *readers);

/* Who has this handle; NULL: nobody that the inbox knows. */
struct reader *readers_of_handle(const struct readers *readers, uint64_t handle);

/* Who has this name; NULL: nobody has come by it. */
struct reader *readers_of_name(const struct readers *readers, const char *name);

/* A consumer of that name has come. Its reader, which may have been there before; NULL: no memory. */
struct reader *readers_add(struct readers *readers, const char *name, uint64_t handle);

/* The consumer is gone. keeps: what comes to its handle is still for the reader. */
void readers_remove(struct readers *readers, uint64_t handle, bool keeps);

/* Forgets readers that nobody will ask about: of consumers that have come and gone. Now and then. */
void readers_sweep(struct readers *readers);

/* It is behind, and so among those to be read for, where somebody is there. */
void readers_fall_behind(struct readers *readers, struct reader *reader);

/* The handle of who is there; 0: nobody is. */
static inline uint64_t reader_handle(const struct reader *reader)
{
	return reader->current ? reader->current->entry.hash : 0;
}

/* It has got so far with what it reads. */
void readers_advance(struct reader *reader, uint64_t id);

/* What one consumer may have in hand. */
struct readers_share {
	size_t messages, bytes;
};

/* Whether somebody is there who may have one more in hand; one is always allowed. */
bool readers_may_take(const struct reader *reader, const struct readers_share *most);

/* A message of so many bytes was handed over to it; one of those is done with. */
void readers_hand_over(struct reader *reader, size_t bytes);
void readers_done(struct readers *readers, uint64_t handle);

/* The next to be read for, which is not listed any more; NULL: there is none. */
struct reader *readers_take(struct readers *readers);

#endif
