/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table: a look-up table in memory, parsed from the text of a texthash: or inline: table
 * (Postfix's postmap(5) input: "key value" lines, '#' comments, continuation by leading blanks;
 * inline:{k=v, {k = v w}}), or static:value, which answers every key. Where a key stands twice,
 * the first counts.
 */
#ifndef COMMON_CONF_TABLE_H
#define COMMON_CONF_TABLE_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/schema.h"

struct table;

/* The table or tables (in their order, the first that has a key decides) of a TABLE parameter,
 * with the files that came along with the configuration. What programs call. */
struct conf;
MUST_CHECK enum err table_from_conf(const struct conf *c, enum conf_param p, struct buf *why,
	struct table **out);

/* Takes the next "type:name" off *rest, a list separated by blanks and commas; braces keep one
 * together. */
bool table_spec_next(struct slice *rest, struct slice *spec);
/* The file that a spec needs, as a path: "/etc/x" for "texthash:/etc/x" and
 * "proxy:texthash:/etc/x"; false when it needs none. Types that are not known are ERR_CONFIG of
 * table_parse(). */
bool table_spec_file(struct slice spec, struct slice *path);

/* spec is the parameter's value ("texthash:/etc/x"); content the file's. why: line number and
 * what is wrong. An empty spec yields an empty table. */
MUST_CHECK enum err table_parse(struct slice spec, struct slice content, struct buf *why,
	struct table **out);
void table_free(struct table **t);
size_t table_count(const struct table *t);
/* Keys compare without case. False: not there. */
bool table_find(const struct table *t, struct slice key, struct slice *value);
/* The domain; then for each parent ".parent" and, when parents is true, "parent"; then "*".
 * Without parents this is the order of Postfix's transport(5). A domain with a dot at its end
 * is looked up without it. */
bool table_find_domain(const struct table *t, struct slice domain, bool parents,
	struct slice *value);
/* i below table_count(), in file order. */
void table_at(const struct table *t, size_t i, struct slice *key, struct slice *value);

#endif
