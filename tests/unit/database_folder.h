/* A folder with one database in it, for tests of one program: what stands in its files, and what the disk
 * lets be written. */
#ifndef DATABASE_FOLDER_H
#define DATABASE_FOLDER_H

#include <stddef.h>
#include <sys/types.h>

/* The folder; the database's file, the one that SQLite has beside it, and the inbox's journal; the last
 * sentence. */
extern char folder[64], path[96], beside_path[112], newest_path[112], reason[1024];

/* name: of the database's file. beside: what SQLite adds to that, `-wal`. 0, or -1: there is no folder. */
int database_folder_make(const char *name, const char *beside);

/* Removes these files. */
void forget_files(void);

/* The folder too, as cmocka wants it. */
int database_folder_remove(void **state);

/* Bytes; -1: there is no such file. */
off_t size_of(const char *file);

/* The caller frees it. */
char *read_file(const char *file, size_t *ret_size);
void write_file(const char *file, const void *bytes, size_t size);

/* No file of this process's may become larger; -1: as large as before. */
void limit_files(off_t size);

/* Fails the test where reason is no sentence about this file that has these words. */
void assert_reason(const char *file, const char *words);

#endif
