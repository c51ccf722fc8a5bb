/* SPDX-License-Identifier: Apache-2.0 */
/* What is accepted is written out and must read back as the same; lists must not overrun. */
#include <stdlib.h>

#include "common/io/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size};
	struct endpoint e;
	struct endpoint again;
	char s[ENDPOINT_TEXT_MAX];
	struct cidr_list l;
	struct slice bad;

	if (endpoint_parse(text, 25, &e) == ERR_OK) {
		endpoint_format(&e, s);
		if (endpoint_parse(slice_from_cstr(s), 0, &again) != ERR_OK ||
			!endpoint_eq(&e, &again)) {
			abort();
		}
		struct sockaddr_storage sa;
		(void)endpoint_to_sockaddr(&e, &sa);
		if (endpoint_from_sockaddr(&sa, &again) != ERR_OK || !endpoint_eq(&e, &again)) {
			abort();
		}
	}
	if (cidr_list_parse(text, &l, &bad) == ERR_OK) {
		struct endpoint v4 = {.family = 4, .addr = {127, 0, 0, 1}};
		struct endpoint v6 = {.family = 6, .addr = {0xfe, 0x80, [15] = 1}};
		(void)cidr_list_has(&l, &v4);
		(void)cidr_list_has(&l, &v6);
		cidr_list_clear(&l);
	} else if (bad.p < data || bad.p + bad.n > data + size) {
		abort();
	}
	return 0;
}
