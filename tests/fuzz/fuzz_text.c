/* SPDX-License-Identifier: Apache-2.0 */
/* Slices, numbers and JSON strings: bounds, and what each promises of its result. */
#include <assert.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void numbers(struct slice s)
{
	uint64_t v = 0;
	uint64_t hex = 0;
	uint32_t narrow = 0;
	struct buf b;

	if (num_parse_hex_u64(s, &hex) == ERR_OK && s.n <= 4) {
		assert(hex <= 0xffff);
	}
	enum err narrow_err = num_parse_u32(s, 1000, &narrow);
	if (num_parse_u64(s, UINT64_MAX, &v) != ERR_OK) {
		assert(narrow_err != ERR_OK);
		return;
	}
	assert((narrow_err == ERR_OK) == (v <= 1000));
	while (s.n > 1 && s.p[0] == '0') {
		s = slice_skip(s, 1);
	}
	buf_init(&b, 100);
	struct json j = json_begin(&b);
	json_u64(&j, v);
	assert(json_end(&j) == ERR_OK && slice_eq(buf_view(&b), s));
	buf_clear(&b);
}

static void parts(struct slice s)
{
	struct slice rest = s;
	struct slice part;
	size_t n = 0;

	while (slice_cut(&rest, ',', &part)) {
		n += part.n + 1;
	}
	assert(n == s.n || n == s.n + 1);
	rest = s;
	while (slice_word(&rest, " ,", &part)) {
		assert(part.n != 0 && slice_find(part, ' ') == part.n);
	}
	assert(hash_bytes_nocase(s) == hash_bytes_nocase(s));
	assert(slice_eq_nocase(s, s) && slice_cmp(s, s) == 0);
	(void)slice_trim(s);
}

static void strings(struct slice s)
{
	struct buf b;

	buf_init(&b, 6 * s.n + 2);
	struct json j = json_begin(&b);
	json_str(&j, s);
	assert(json_end(&j) == ERR_OK);
	struct slice text = buf_view(&b);
	for (size_t i = 0; i < text.n; i++) {
		assert(text.p[i] >= 0x20 && text.p[i] != 0x7f);
	}
	/* What came out is UTF-8, so nothing in it is replaced when it goes in again. */
	struct buf again;
	buf_init(&again, 6 * text.n + 2);
	struct json k = json_begin(&again);
	json_str(&k, text);
	assert(json_end(&k) == ERR_OK);
	buf_clear(&again);
	buf_clear(&b);
	assert(strlen(LOG_TEXT(s)) < sizeof(struct log_text));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct slice s = slice_make(p, n);

	numbers(s);
	parts(s);
	strings(s);
	return 0;
}
