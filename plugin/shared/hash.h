/* A hash that nobody outside can foresee: SipHash-1-3 (Aumasson and Bernstein, 2012), keyed anew in each
 * process. So no client can make up two different strings with one hash, nor many that share a chain of a
 * table. Any thread. */
#ifndef MQTTASGI_HASH_H
#define MQTTASGI_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash {
	uint64_t v0, v1, v2, v3;
};

/* Several strings, one after the other: hash_begin(), hash_add() for each, hash_end(). Two strings are not
 * the same as two others of the same bytes. */
struct hash hash_begin(void);
void hash_add(struct hash *hash, const void *data, size_t length);
uint64_t hash_end(struct hash *hash);

/* Of a text alone. */
uint64_t hash_text(const char *text);

/* Of a number, in a few instructions; two numbers never have the same. */
uint64_t hash_number(uint64_t number);

#endif
