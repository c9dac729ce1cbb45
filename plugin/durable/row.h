/* A message's row for one of its consumers.
 *
 * Broker thread, part of store.c. */
#ifndef MQTTASGI_ROW_H
#define MQTTASGI_ROW_H

#include <sqlite3.h>

#include "durable/result.h"
#include "durable/stored.h"

/* What the statement NEXT has found (database.h), which *ret points into until the next step or reset.
 * STORE_CORRUPT: nobody has written that here. STORE_NO_MEMORY. */
enum store_result row_read(sqlite3_stmt *row, uint32_t consumer, struct store_delivery *ret)
		__attribute__((warn_unused_result));

#endif
