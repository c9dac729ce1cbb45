/* Prints how dotenv.c reads the files named on the command line: per file its names and values, for
 * oracle_dotenv.py. NAME NUL `=`VALUE NUL or NAME NUL `-` NUL per variable, then `.` NUL or `!` NUL (a
 * problem). */
#include <stdio.h>

#include "options/dotenv.h"
#include "shared/mosquitto_api.h"

int main(int argc, char **argv)
{
	struct dotenv *dotenv;
	size_t j;
	int i;

	for (i = 1; i < argc; i++) {
		if (dotenv_read(argv[i], &dotenv) != MOSQ_ERR_SUCCESS) {
			return 1;
		}
		for (j = 0; j < dotenv->count; j++) {
			printf("%s%c", dotenv->variables[j].name, 0);
			printf("%s%s%c", dotenv->variables[j].value ? "=" : "-",
					dotenv->variables[j].value ? dotenv->variables[j].value : "", 0);
		}
		printf("%s%c", dotenv->problem_count > 0 ? "!" : ".", 0);
		dotenv_free(dotenv);
	}
	return 0;
}
