#include "shared/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/log_ring.h"
#include "shared/mosquitto_api.h"

/* In lines that end between two characters. */
void log_text(int level, const char *text, size_t length)
{
	size_t piece;

	do {
		piece = length < LOG_LINE_MAX ? length : LOG_LINE_MAX;
		while (piece < length && piece > LOG_LINE_MAX - 4 && ((unsigned char)text[piece] & 0xC0) == 0x80) {
			piece--;
		}
		mosquitto_log_printf(level, "mqttasgi: %.*s", (int)piece, text);
		log_ring_add(level, text, piece);
		text += piece;
		length -= piece;
	} while (length);
}

void log_line(int level, const char *format, ...)
{
	char line[LOG_LINE_MAX + 1], *text = NULL;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* Memory is asked for only by what does not fit, and what remains of that without memory is its
	 * beginning: "no memory" can always be said. */
	if (length > LOG_LINE_MAX && (text = malloc((size_t)length + 1))) {
		va_start(arguments, format);
		(void)vsnprintf(text, (size_t)length + 1, format, arguments);
		va_end(arguments);
	}
	log_text(level, text ? text : line, strlen(text ? text : line));
	free(text);
}

bool log_may_complain(struct log_complaint *complaint, uint64_t times, uint64_t *ret_times)
{
	time_t now = time(NULL);

	complaint->since_last_line += times;
	if (complaint->last_line == now) {
		return false;
	}
	*ret_times = complaint->since_last_line;
	complaint->since_last_line = 0;
	complaint->last_line = now;
	return true;
}
