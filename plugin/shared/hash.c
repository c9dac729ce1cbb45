#include "shared/hash.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t key[2];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
	if (getrandom(key, sizeof(key), GRND_NONBLOCK) != (ssize_t)sizeof(key)) {
		/* Early at boot: hard to guess is good enough. */
		key[0] = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15U;
		key[1] = key[0] ^ (uintptr_t)&key;
	}
}

static uint64_t rotate(uint64_t word, unsigned int bits)
{
	return word << bits | word >> (64 - bits);
}

static void mix(struct hash *hash)
{
	hash->v0 += hash->v1;
	hash->v2 += hash->v3;
	hash->v1 = rotate(hash->v1, 13) ^ hash->v0;
	hash->v3 = rotate(hash->v3, 16) ^ hash->v2;
	hash->v0 = rotate(hash->v0, 32);
	hash->v2 += hash->v1;
	hash->v0 += hash->v3;
	hash->v1 = rotate(hash->v1, 17) ^ hash->v2;
	hash->v3 = rotate(hash->v3, 21) ^ hash->v0;
	hash->v2 = rotate(hash->v2, 32);
}

static void add_word(struct hash *hash, uint64_t word)
{
	hash->v3 ^= word;
	mix(hash);
	hash->v0 ^= word;
}

struct hash hash_begin(void)
{
	(void)pthread_once(&once, make_key);
	return (struct hash){key[0] ^ 0x736f6d6570736575U, key[1] ^ 0x646f72616e646f6dU,
		key[0] ^ 0x6c7967656e657261U, key[1] ^ 0x7465646279746573U};
}

/* The bytes in words, the last one filled up, then their number. */
void hash_add(struct hash *hash, const void *data, size_t length)
{
	const unsigned char *at = data;
	size_t rest = length;
	uint64_t word;

	for (; rest >= sizeof(word); at += sizeof(word), rest -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		add_word(hash, word);
	}
	word = 0;
	if (rest) {
		memcpy(&word, at, rest);
	}
	add_word(hash, word);
	add_word(hash, length);
}

uint64_t hash_end(struct hash *hash)
{
	hash->v2 ^= 0xff;
	mix(hash);
	mix(hash);
	mix(hash);
	return hash->v0 ^ hash->v1 ^ hash->v2 ^ hash->v3;
}

uint64_t hash_text(const char *text)
{
	struct hash hash = hash_begin();

	hash_add(&hash, text, strlen(text));
	return hash_end(&hash);
}

/* The last step of splitmix64, between two secrets. */
uint64_t hash_number(uint64_t number)
{
	(void)pthread_once(&once, make_key);
	number ^= key[0];
	number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9U;
	number = (number ^ (number >> 27)) * 0x94d049bb133111ebU;
	return (number ^ (number >> 31)) + key[1];
}
