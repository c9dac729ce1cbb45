/* The number in a word for the loop thread. */
#ifndef WORD_NUMBER_H
#define WORD_NUMBER_H

#include <stdint.h>

#include "shared/message.h"

/* The answer's, the hold's, or the consumer's. */
static inline uint64_t word_number(const struct message *word)
{
	switch (word->kind) {
	case MESSAGE_ANSWER:
		return word->as.answer.sequence;
	case MESSAGE_RELEASE:
		return (uint64_t)word->as.hold.number;
	default:
		return word->as.hold_consumer.consumer;
	}
}

#endif
