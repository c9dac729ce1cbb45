/* The store's statements, each prepared once, its transactions, and its log.
 *
 * SQLite writes a transaction to the log (WAL) beside the file; a checkpoint takes what is there into the
 * file. Broker thread, part of store.c. */
#ifndef MQTTASGI_DATABASE_H
#define MQTTASGI_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "durable/result.h"

/* clang-format off */
#define STATEMENTS(STATEMENT) \
	STATEMENT(BEGIN, "BEGIN IMMEDIATE") \
	STATEMENT(COMMIT, "COMMIT") \
	STATEMENT(ROLLBACK, "ROLLBACK") \
	STATEMENT(ADD_MESSAGE, "INSERT INTO message (id, size, time, qos, retain, topic, properties, publisher, payload) " \
			"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)") \
	STATEMENT(ADD_RECIPIENT, "INSERT INTO recipient (message, consumer, options, identifier, tries) VALUES (?, ?, ?, ?, 0)") \
	STATEMENT(ADD_SEVERAL, "INSERT INTO several (message, rest) VALUES (?, ?)") \
	STATEMENT(REMOVE_RECIPIENT, "DELETE FROM recipient WHERE message = ? AND consumer = ?") \
	STATEMENT(COUNT_DOWN, "UPDATE several SET rest = rest - 1 WHERE message = ?") \
	STATEMENT(REST, "SELECT rest FROM several WHERE message = ?") \
	STATEMENT(REMOVE_SEVERAL, "DELETE FROM several WHERE message = ?") \
	STATEMENT(SIZE, "SELECT size FROM message WHERE id = ?") \
	STATEMENT(REMOVE_MESSAGE, "DELETE FROM message WHERE id = ?") \
	STATEMENT(NEXT, "SELECT message.id, time, qos, retain, topic, properties, publisher, payload, options, identifier, tries " \
			"FROM recipient CROSS JOIN message ON message.id = recipient.message " \
			"WHERE recipient.message > ? AND recipient.consumer = ? ORDER BY recipient.message LIMIT 1") \
	STATEMENT(NEXT_ID, "SELECT message FROM recipient WHERE message > ? AND consumer = ? ORDER BY message LIMIT 1") \
	STATEMENT(COUNT, "SELECT count(*) FROM message") \
	STATEMENT(BYTES, "SELECT coalesce(sum(size), 0) FROM message") \
	STATEMENT(NEWEST, "SELECT coalesce(max(id), 0) FROM message") \
	STATEMENT(USED, "SELECT id FROM used") \
	STATEMENT(JOURNAL, "SELECT journal FROM used") \
	STATEMENT(USE, "UPDATE used SET id = ?") \
	STATEMENT(OLDEST, "SELECT id, time FROM message ORDER BY id LIMIT 1") \
	STATEMENT(FIND_CONSUMER, "SELECT number FROM consumer WHERE name = ?") \
	STATEMENT(ADD_CONSUMER, "INSERT INTO consumer (name, asked) VALUES (?, ?)") \
	STATEMENT(ASK, "UPDATE consumer SET asked = ?2 WHERE number = ?1") \
	STATEMENT(UNASKED, "SELECT number, name FROM consumer WHERE asked < ? ORDER BY number LIMIT 1") \
	STATEMENT(REMOVE_REST, "DELETE FROM recipient WHERE consumer = ?") \
	STATEMENT(REMOVE_CONSUMER, "DELETE FROM consumer WHERE number = ?") \
	STATEMENT(FAIL, "UPDATE recipient SET tries = tries + 1 WHERE message = ? AND consumer = ?") \
	STATEMENT(TRIES, "SELECT tries FROM recipient WHERE message = ? AND consumer = ?") \
	STATEMENT(SPARE, "PRAGMA freelist_count") \
	STATEMENT(PAGES, "PRAGMA page_count") \
	STATEMENT(SHRINK, "PRAGMA incremental_vacuum(64)")
/* clang-format on */

#define STATEMENT_NAME(name, sql) name,
enum statement { STATEMENTS(STATEMENT_NAME) STATEMENTS_END };

struct database {
	sqlite3 *sqlite;
	sqlite3_stmt *statements[STATEMENTS_END];
	unsigned int log_pages;          /* at the last commit, of what no checkpoint has taken */
	unsigned int checkpoint_at;      /* so many */
	int64_t reserved;                /* bytes of the file that there is room for; 0: not known */
	enum store_result of_checkpoint; /* of the last one */
};

/* Of an open connection, which stays the caller's if SQLite does not return SQLITE_OK. */
int database_init(struct database *database, sqlite3 *sqlite) __attribute__((warn_unused_result));

/* Closes it. Also after database_init() has failed. */
void database_close(struct database *database);

/* What a code of SQLite's means. */
enum store_result database_result(struct database *database, int rc);

/* Sets up to two numbers, as far as the statement has room for them. */
sqlite3_stmt *database_bind(struct database *database, enum statement which, uint64_t first, uint64_t second);

/* Runs a statement to its end. */
enum store_result database_finish(struct database *database, sqlite3_stmt *statement)
		__attribute__((warn_unused_result));

/* Both. */
enum store_result database_run(struct database *database, enum statement which, uint64_t first,
		uint64_t second);

/* The number that a statement returns; STORE_NOT_FOUND: it returns nothing. */
enum store_result database_ask(struct database *database, enum statement which, uint64_t first,
		uint64_t second, int64_t *ret_number) __attribute__((warn_unused_result));

/* Within a transaction: has the file system keep room for the pages that the file gets by it, so that a
 * checkpoint finds it. */
enum store_result database_reserve(struct database *database) __attribute__((warn_unused_result));

/* Where a transaction is open. */
void database_roll_back(struct database *database);

/* Takes what the log has into the file if that is enough, so that the next transaction starts the log anew.
 * After a failure the next try is as much later. at_once: however little it is, and even then. */
enum store_result database_checkpoint(struct database *database, bool at_once);

#endif
