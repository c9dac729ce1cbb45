#include "cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options/dotenv.h"
#include "scarce_memory.h"
#include "shared/mosquitto_api.h"

/* What python-dotenv 1.2.4 makes of each file; oracle_dotenv.py compares generated ones. Names and values
 * stand between '|', a name without a value ends in '!'. */
static const struct {
	const char *file;
	const char *expected;
} cases[] = {
	{"", ""},
	{"\n\n  \n", ""},
	{"# only a comment", ""},
	{"A=1", "A=1|"},
	{"A=1\nB=2\n", "A=1|B=2|"},
	{"A=1\r\nB=2\r\n", "A=1|B=2|"},
	{"A=1\rB=2", "A=1|B=2|"},
	{"\xef\xbb\xbf"
	 "A=1",
		"A=1|"},
	{"  A = 1  ", "A=1|"},
	{"\tA\t=\t1\t", "A=1|"},
	{"A=", "A=|"},
	{"A= ", "A=|"},
	{"A=\nB=2", "A=|B=2|"},
	{"A", "A!|"},
	{"A # c", "A!|"},
	{"export A=1", "A=1|"},
	{"export  A", "A!|"},
	{"export", "export!|"},
	{"export=1", "export=1|"},
	{"exportA=1", "exportA=1|"},
	{"A=a b", "A=a b|"},
	{"A=a #b", "A=a|"},
	{"A=a#b", "A=a#b|"},
	{"A=#b", "A=#b|"},
	{"A= #b", "A=|"},
	{"A=a\t# b # c", "A=a|"},
	{"A='a b'", "A=a b|"},
	{"A='a # b' # c", "A=a # b|"},
	{"A='a'#c", "A=a|"},
	{"A='it\\'s'", "A=it's|"},
	{"A='a\\nb'", "A=a\\nb|"},
	{"A='a\\\\'", "A=a\\|"},
	{"A=\"a\\nb\"", "A=a\nb|"},
	{"A=\"a\\\"b\"", "A=a\"b|"},
	{"A=\"\\a\\b\\f\\r\\t\\v\\'\\\\\"", "A=\a\b\f\r\t\v'\\|"},
	{"A=\"\\q\\x41\"", "A=\\q\\x41|"},
	{"A=a\\nb", "A=a\\nb|"},
	{"A=\"a\nb\"\nB=2", "A=a\nb|B=2|"},
	{"A='a\r\nb'\r\nB=2", "A=a\nb|B=2|"},
	{"'A'=1", "A=1|"},
	{"'A B'=1", "A B=1|"},
	{"\"A\"=1", "\"A\"=1|"},
	{"A#=1", "A!|"},
	{"A=1\nA=2\nB=3", "A=2|B=3|"},
	{"A==", "A==|"},
	{"A=1\nB=${A}2", "A=1|B=12|"},
	{"A=1\nB='${A}2'", "A=1|B=12|"},
	{"B=${MISSING}", "B=|"},
	{"B=${MISSING:-x y}", "B=x y|"},
	{"B=${MISSING:-${MISSING}}", "B=${MISSING}|"},
	{"B=${MISSING:x}", "B=${MISSING:x}|"},
	{"B=${MISSING", "B=${MISSING|"},
	{"B=$MISSING", "B=$MISSING|"},
	{"A\nB=${A:-x}", "A!|B=|"},
	{"A=1\nA=${A}2", "A=12|"},
	{"GIVEN=of the file\nB=${GIVEN}", "GIVEN=of the file|B=of the environment|"},
	{"A=\"tab\there\"", "A=tab\there|"},
	{"A=\xc3\xa4\xff", "A=\xc3\xa4\xff|"},
};

static const struct {
	const char *file;
	size_t length; /* 0: up to the NUL */
	size_t line;
	size_t count;
} problems[] = {
	{"=1", 0, 1, 1},
	{"A=1\n\n  =2\nB=3", 0, 3, 1},
	{"A B", 0, 1, 1},
	{"A='1", 0, 1, 1},
	{"\nA=\"1\nB=2\n", 0, 2, 1},
	{"A='1' x", 0, 1, 1},
	{"A=\"1\\", 0, 1, 1},
	{"''=1", 0, 1, 1},
	{"'A=1", 0, 1, 1},
	{"'A=B'=1", 0, 1, 1},
	{"export ", 0, 1, 1},
	{"export =1", 0, 1, 1},
	{"A='a\nb'\nC D\nE F", 0, 3, 2},
	{"A=1\nB=a\0b", 10, 2, 1},
	{"A\0=1", 4, 1, 1},
};

static void render(const struct dotenv *dotenv, char *out, size_t size)
{
	size_t i, used = 0;

	*out = '\0';
	for (i = 0; i < dotenv->count && used < size; i++) {
		const struct dotenv_variable *variable = &dotenv->variables[i];

		used += (size_t)snprintf(out + used, size - used, "%s%s%s|", variable->name,
				variable->value ? "=" : "!", variable->value ? variable->value : "");
	}
}

static void test_reads_what_python_dotenv_reads(void **state)
{
	struct dotenv *dotenv;
	char rendered[512];
	size_t i;

	(void)state;
	setenv("GIVEN", "of the environment", 1);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(dotenv_parse(cases[i].file, strlen(cases[i].file), &dotenv), MOSQ_ERR_SUCCESS);
		render(dotenv, rendered, sizeof rendered);
		assert_string_equal(rendered, cases[i].expected);
		assert_int_equal(dotenv->problem_count, 0);
		dotenv_free(dotenv);
	}
	unsetenv("GIVEN");
}

static void test_problems_have_lines(void **state)
{
	struct dotenv *dotenv;
	size_t i, length;

	(void)state;
	for (i = 0; i < sizeof problems / sizeof problems[0]; i++) {
		length = problems[i].length > 0 ? problems[i].length : strlen(problems[i].file);
		assert_int_equal(dotenv_parse(problems[i].file, length, &dotenv), MOSQ_ERR_SUCCESS);
		assert_int_equal(dotenv->problem_count, problems[i].count);
		assert_int_equal(dotenv->problem_line, problems[i].line);
		assert_non_null(dotenv->problem);
		dotenv_free(dotenv);
	}
}

static void test_variables_have_lines(void **state)
{
	static const char file[] = "A=1\n\nB='x\ny'\nC=3\nA=4";
	struct dotenv *dotenv;

	(void)state;
	assert_int_equal(dotenv_parse(file, strlen(file), &dotenv), MOSQ_ERR_SUCCESS);
	assert_int_equal(dotenv->count, 3);
	assert_int_equal(dotenv->variables[0].line, 6);
	assert_int_equal(dotenv->variables[1].line, 3);
	assert_int_equal(dotenv->variables[2].line, 5);
	dotenv_free(dotenv);
}

/* Twenty doublings would be megabytes, forty the whole memory. */
static void test_expansion_is_bounded(void **state)
{
	struct dotenv *dotenv;
	char file[4096] = "V0=0123456789abcdef\n";
	size_t used = strlen(file);
	int i;

	(void)state;
	for (i = 1; i < 40; i++) {
		used += (size_t)snprintf(file + used, sizeof file - used, "V%d=${V%d}${V%d}\n", i, i - 1, i - 1);
	}
	assert_int_equal(dotenv_parse(file, used, &dotenv), MOSQ_ERR_SUCCESS);
	assert_true(dotenv->problem_count > 0);
	assert_true(dotenv->problem_line > 10);
	dotenv_free(dotenv);
}

static void test_files(void **state)
{
	char path[] = "/tmp/dotenv-XXXXXX";
	int fd = mkstemp(path);
	struct dotenv *dotenv;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "A=1\n", 4), 4);
	assert_int_equal(dotenv_read(path, &dotenv), MOSQ_ERR_SUCCESS);
	assert_string_equal(dotenv->variables[0].value, "1");
	dotenv_free(dotenv);
	assert_int_equal(ftruncate(fd, DOTENV_BYTES_MAX + 1), 0);
	assert_int_equal(dotenv_read(path, &dotenv), MOSQ_ERR_ERRNO);
	assert_int_equal(errno, EFBIG);
	close(fd);
	unlink(path);
	assert_int_equal(dotenv_read(path, &dotenv), MOSQ_ERR_ERRNO);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(dotenv_read("/tmp", &dotenv), MOSQ_ERR_ERRNO);
	assert_int_equal(errno, EISDIR);
	dotenv_free(NULL);
}

static void test_scarce_memory(void **state)
{
	static const char file[] = "A=1\nB='x${A}'\nC\nA=\"2\"\nD=${B}${C:-c}\nE=1\nF=2\n=x\n";
	struct dotenv *dotenv;
	unsigned long n;
	int rc;

	(void)state;
	for (n = 1;; n++) {
		scarce_memory(n, false);
		rc = dotenv_parse(file, strlen(file), &dotenv);
		if (!scarce_memory_end()) {
			break;
		}
		assert_int_equal(rc, MOSQ_ERR_NOMEM);
	}
	assert_int_equal(rc, MOSQ_ERR_SUCCESS);
	assert_true(n > 10);
	dotenv_free(dotenv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_python_dotenv_reads),
		cmocka_unit_test(test_problems_have_lines),
		cmocka_unit_test(test_variables_have_lines),
		cmocka_unit_test(test_expansion_is_bounded),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_scarce_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
