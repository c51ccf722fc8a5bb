/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/lib/scratch.h"

void scratch_make(struct scratch *s)
{
	const char *base = getenv("TMPDIR");
	int n = snprintf(s->path, sizeof(s->path), "%s/ekiden-test.XXXXXX",
		base == NULL || strlen(base) > 30 ? "/tmp" : base);
	char *made = n > 0 && (size_t)n < sizeof(s->path) ? mkdtemp(s->path) : NULL;

	assert(made != NULL);
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(s->dir >= 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

void scratch_remove(struct scratch *s)
{
	if (s->path[0] == 0) {
		return;
	}
	(void)close(s->dir);
	(void)nftw(s->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	s->path[0] = 0;
}
