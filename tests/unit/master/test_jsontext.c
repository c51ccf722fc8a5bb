/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "master/jsontext.h"

static const char *const good[] = {
	"{}",
	"{ }",
	"{\"a\":1}",
	"{\"a\" : -0.5e+10 , \"b\":[1,2,{\"c\":[]}],\"d\":null}",
	"{\"a\":true,\"b\":false,\"c\":\"x\\u00e9\\n\\\"\\\\\"}",
	"{\"\":{\"\":{}}}",
	"{\"a\":[[],[[]],{}]}",
	"{\"a\":0,\"b\":10,\"c\":1E5,\"d\":1e-5}",
	"{\"a\":\"\xff\xfe\"}",
};

static const char *const bad[] = {
	"",
	"{",
	"}",
	"[]",
	"1",
	"{}{}",
	"{} ",
	"{\n}",
	"{\"a\"}",
	"{\"a\":}",
	"{\"a\":1,}",
	"{,\"a\":1}",
	"{\"a\":1 \"b\":2}",
	"{\"a\":[1,]}",
	"{\"a\":[1}]",
	"{\"a\":[1}",
	"{\"a\":01}",
	"{\"a\":1.}",
	"{\"a\":.5}",
	"{\"a\":1e}",
	"{\"a\":-}",
	"{\"a\":+1}",
	"{\"a\":tru}",
	"{\"a\":nul}",
	"{\"a\":\"\\x\"}",
	"{\"a\":\"\\u12g4\"}",
	"{\"a\":\"\\u12\"}",
	"{\"a\":\"x}",
	"{\"a\":\"\t\"}",
	"{\"a\":\"\x7f\"}",
	"{a:1}",
	"{1:1}",
	"{\"a\":1]}",
	"{\"a\":{\"b\":1]}",
};

static void tells_an_object_from_what_is_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (!jsontext_is_object(slice_from_cstr(good[i]))) {
			fail_msg("refused: %s", good[i]);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (jsontext_is_object(slice_from_cstr(bad[i]))) {
			fail_msg("took: %s", bad[i]);
		}
	}
	assert_false(jsontext_is_object(SLICE("{\"a\0\":1}")));
}

static void refuses_every_truncation(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct slice whole = slice_from_cstr(good[i]);
		for (size_t n = 0; n < whole.n; n++) {
			assert_false(jsontext_is_object(slice_head(whole, n)));
		}
	}
}

static void nests_as_deep_as_it_says(void **state)
{
	char text[512];

	(void)state;
	for (size_t depth = 1; depth <= 40; depth++) {
		static const char head[] = {'{', '"', 'a', '"', ':'};
		size_t n = sizeof(head);
		memcpy(text, head, n);
		for (size_t i = 1; i < depth; i++) {
			text[n++] = '[';
		}
		text[n++] = '1';
		for (size_t i = 1; i < depth; i++) {
			text[n++] = ']';
		}
		text[n++] = '}';
		assert_int_equal(jsontext_is_object(slice_make(text, n)),
			depth <= JSONTEXT_DEPTH_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_an_object_from_what_is_none),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(nests_as_deep_as_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
