/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: ctl */
/* What takes JSON apart: members lie within the text, and reading ends. */
#include <stddef.h>
#include <stdint.h>

#include "ctl/jsonview.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_make(data, size);
	struct jsonview v = jsonview_open(text);
	struct jsonview_value value;
	struct slice name;
	struct buf plain;

	buf_init(&plain, size * 3 + 1);
	while (jsonview_next(&v, &name, &value)) {
		if (value.text.n != 0 &&
			(value.text.p < data || value.text.p + value.text.n > data + size)) {
			__builtin_trap();
		}
		buf_reset(&plain);
		jsonview_plain(&value, &plain);
	}
	(void)jsonview_find(text, "qid", &value);
	(void)jsonview_is_valid(text);
	buf_clear(&plain);
	return 0;
}
