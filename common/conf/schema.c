/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "build_paths.h"
#include "common/conf/conf.h"

#define LOCALSTATEDIR PATH_LOCALSTATEDIR
#define AS_INFO(name, type, preset, range, sees, meaning)                                      \
	[CONF_##name] = {#name, #type, preset, range, sees, meaning},
static const struct conf_param_info infos[] = {CONF_SCHEMA(AS_INFO)};
#undef AS_INFO
static_assert(ARRAY_LEN(infos) == CONF_COUNT, "every parameter once");

const struct conf_param_info *conf_param_info(enum conf_param p)
{
	assert(p < CONF_COUNT);
	return &infos[p];
}

enum conf_param conf_param_find(struct slice name)
{
	for (unsigned i = 0; i < CONF_COUNT; i++) {
		if (slice_eq(name, slice_from_cstr(infos[i].name))) {
			return (enum conf_param)i;
		}
	}
	return CONF_COUNT;
}
