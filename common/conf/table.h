/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table: a look-up table in memory, parsed from the text of a texthash: or inline: table
 * (Postfix's postmap(5) input: "key value" lines, '#' comments, continuation by leading blanks;
 * inline:{ {k=v} ... }).
 */
#ifndef COMMON_CONF_TABLE_H
#define COMMON_CONF_TABLE_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct table;

/* spec is the parameter's value ("texthash:/etc/x"); content the file's. why: line number and
 * what is wrong. An empty spec yields an empty table. */
MUST_CHECK enum err table_parse(struct slice spec, struct slice content, struct buf *why,
	struct table **out);
void table_free(struct table **t);
size_t table_count(const struct table *t);
/* Keys compare without case. False: not there. */
bool table_find(const struct table *t, struct slice key, struct slice *value);
/* The domain, then its parents written ".parent" or "parent" (as Postfix's transport(5) has it
 * when parents is true), then "*". */
bool table_find_domain(const struct table *t, struct slice domain, bool parents,
	struct slice *value);
/* i below table_count(), in file order. */
void table_at(const struct table *t, size_t i, struct slice *key, struct slice *value);

#endif
