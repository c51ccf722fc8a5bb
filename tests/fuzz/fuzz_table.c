/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: the first line is the spec, the rest the content of its file. */
#include <stddef.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/conf/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice content = slice_make(data, size);
	struct slice spec = SLICE_EMPTY;
	struct slice path;
	struct table *t = NULL;
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	(void)slice_cut(&content, '\n', &spec);
	(void)table_spec_file(spec, &path);
	if (table_parse(spec, content, &why, &t) == ERR_OK) {
		for (size_t i = 0; i < table_count(t); i++) {
			struct slice key;
			struct slice value;
			struct slice found;
			table_at(t, i, &key, &value);
			/* Every entry is found by its key, and it is that one. */
			if (!table_find(t, key, &found) || found.p != value.p) {
				__builtin_trap();
			}
			(void)table_find_domain(t, key, true, &found);
		}
		table_free(&t);
	} else if (buf_len(&why) == 0) {
		__builtin_trap();
	}
	buf_clear(&why);
	return 0;
}
