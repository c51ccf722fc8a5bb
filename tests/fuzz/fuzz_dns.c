/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: resolve */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mail/address.h"
#include "resolve/dns_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* The type is what the question says; a message is read as each of the three. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const uint16_t types[] = {DNS_TYPE_MX, DNS_TYPE_A, DNS_TYPE_AAAA};
	struct arena a;

	arena_init(&a, (size_t)4 * 1024 * 1024);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct dns_answer out;
		arena_reset(&a);
		if (dns_packet_parse(slice_make(bytes, n), types[i], &a, &out) != ERR_OK) {
			continue;
		}
		assert(out.count <= DNS_RECORDS_MAX && out.ttl_s <= DNS_TTL_MAX_S &&
			out.aliases <= DNS_ALIASES_MAX);
		for (size_t k = 0; k < out.count; k++) {
			const struct dns_record *r = &out.records[k];
			assert(types[i] == DNS_TYPE_MX ? r->host.n <= DNS_NAME_MAX
						       : r->family == 4 || r->family == 6);
			for (size_t c = 0; c < r->host.n; c++) {
				assert(r->host.p[c] > ' ' && r->host.p[c] < 0x7f);
			}
		}
	}
	arena_clear(&a);
	return 0;
}
