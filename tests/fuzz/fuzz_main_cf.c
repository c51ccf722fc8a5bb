/* SPDX-License-Identifier: Apache-2.0 */
/* main.cf: its form, its expansions, and every value as the type that it should have. */
#include <stddef.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/conf/conf.h"
#include "common/conf/main_cf.h"
#include "common/conf/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_source s = {.main = NULL};
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	s.main = main_cf_parse(slice_make(data, size), "/main.cf", &s);
	main_cf_expand(s.main, &s);
	for (size_t i = 0; i < conf_main_count(s.main); i++) {
		struct slice name = conf_main_name_at(s.main, i);
		struct slice value = SLICE_EMPTY;
		buf_reset(&why);
		if (conf_main_get(s.main, name, &value) &&
			conf_builder_set(b, name, value, &why) == ERR_CONFIG &&
			buf_len(&why) == 0) {
			__builtin_trap(); /* refused without a reason */
		}
	}
	buf_reset(&why);
	if (conf_builder_end(&b, &why, &c) == ERR_OK) {
		struct conf *again = NULL;
		b = conf_builder_copy(c);
		if (conf_builder_end(&b, &why, &again) != ERR_OK) {
			__builtin_trap(); /* what was good once is good again */
		}
		conf_free(&again);
	}
	conf_free(&c);
	conf_source_clear(&s);
	buf_clear(&why);
	return 0;
}
