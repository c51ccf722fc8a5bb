/* SPDX-License-Identifier: Apache-2.0 */
/* master.cf: whatever is taken as a listener has a port and whole options. */
#include <stddef.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/conf/master_cf.h"
#include "common/io/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_source s = {.main = NULL};
	struct master_cf m;

	master_cf_parse(slice_make(data, size), "/master.cf", &s, &m);
	for (size_t i = 0; i < m.count; i++) {
		const struct master_cf_service *l = &m.services[i];
		struct endpoint e;
		if (l->port == 0 || l->name == NULL || l->line == 0) {
			__builtin_trap();
		}
		if (l->host != NULL &&
			endpoint_parse_addr(slice_from_cstr(l->host), l->port, &e) != ERR_OK) {
			__builtin_trap();
		}
		for (size_t k = 0; k < l->option_count; k++) {
			if (l->options[k].name[0] == '\0' ||
				strlen(l->options[k].name) > LIMIT_PARAM_NAME) {
				__builtin_trap();
			}
		}
	}
	master_cf_clear(&m);
	conf_source_clear(&s);
	return 0;
}
